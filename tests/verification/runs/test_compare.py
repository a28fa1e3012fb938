import math

import ml_dtypes
import numpy as np
import pytest

from bnfold.verification.comparison import OutputVerdict
from bnfold.verification.dtypes import is_float, unit_roundoff
from bnfold.verification.runs.compare import (
    FACTOR,
    compare_all,
    compare_output,
    compare_with_truth,
    distance,
)

A = np.linspace(-1, 1, 64, dtype=np.float32)
NOISE = np.float32(2e-6)


def verdict(candidate: np.ndarray, original: np.ndarray = A) -> OutputVerdict:
    return compare_output("y", "L", original, [original + NOISE], candidate).verdict


def test_the_noise_is_the_measure() -> None:
    noise = distance(A, A + NOISE)
    assert verdict(A + np.float32(0.99 * FACTOR * noise)) is OutputVerdict.AGREES
    assert verdict(A + np.float32(1.02 * FACTOR * noise)) is OutputVerdict.DIFFERS


def test_one_wrong_element_is_enough() -> None:
    wrong = A.copy()
    wrong[17] += 1e-3
    assert verdict(wrong) is OutputVerdict.DIFFERS


def test_without_noise_one_rounding_of_the_largest_element_is_the_measure() -> None:
    u = unit_roundoff(A.dtype)
    inside = compare_output("y", "L", A, [A], A + np.float32(12 * u))
    outside = compare_output("y", "L", A, [A], A + np.float32(40 * u))
    assert inside.verdict is OutputVerdict.AGREES
    assert outside.verdict is OutputVerdict.DIFFERS
    assert outside.ratio == math.inf
    assert outside.to_dict()["ratio"] is None, "JSON has no infinity"


def test_chaos_is_inconclusive_but_disagreement_still_counts() -> None:
    noisy = [A + np.float32(0.01)]
    assert compare_output("y", "L", A, noisy, A).verdict is OutputVerdict.INCONCLUSIVE
    assert compare_output("y", "L", A, noisy, A + 1).verdict is OutputVerdict.DIFFERS


def test_float16_is_coarse_without_being_chaotic() -> None:
    half = A.astype(np.float16)
    moved = (A + np.float32(0.004)).astype(np.float16)
    assert compare_output("y", "L", half, [moved], half).verdict is OutputVerdict.AGREES


def test_nan_on_both_sides_is_no_evidence() -> None:
    original = A.copy()
    original[3] = np.nan
    original[4] = np.inf
    result = compare_output("y", "L", original, [original], original)
    assert result.verdict is OutputVerdict.AGREES
    assert result.no_evidence == 2


def test_nan_everywhere_proves_nothing() -> None:
    empty = np.full_like(A, np.nan)
    assert compare_output("y", "L", empty, [empty], empty).verdict is OutputVerdict.INCONCLUSIVE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_on_one_side_fails(value: float) -> None:
    wrong = A.copy()
    wrong[3] = value
    assert verdict(wrong) is OutputVerdict.DIFFERS
    assert verdict(A, wrong) is OutputVerdict.DIFFERS
    assert verdict(wrong, wrong) is OutputVerdict.AGREES


def test_infinities_of_another_sign_fail() -> None:
    up, down = A.copy(), A.copy()
    up[0], down[0] = np.inf, -np.inf
    assert compare_output("y", "L", up, [up], down).verdict is OutputVerdict.DIFFERS


def test_at_the_brink_of_the_range_infinity_is_rounding() -> None:
    original = np.array([65504, 1000], np.float16)
    beyond = np.array([np.inf, 1000], np.float16)
    noisy = [np.array([65472, 1000], np.float16)]
    for a, b in ((original, beyond), (beyond, original)):
        assert compare_output("y", "L", a, noisy, b).verdict is OutputVerdict.AGREES
    far = np.array([-np.inf, 1000], np.float16)
    assert compare_output("y", "L", original, noisy, far).verdict is OutputVerdict.DIFFERS


def test_an_element_that_rounding_makes_infinite_is_no_evidence() -> None:
    original, variant = A.copy(), A.copy()
    original[0] = np.inf
    assert compare_output("y", "L", original, [variant], A).verdict is OutputVerdict.AGREES


def test_what_rounding_makes_infinite_elsewhere_in_the_original_accuses_nobody() -> None:
    original, variant, candidate = A.copy(), A.copy(), A.copy()
    original[:8] = variant[1:8] = candidate[:8] = np.inf
    candidate[[9, 20]] = np.nan, -np.inf
    result = compare_output("y", "L", original, [variant], candidate)
    assert result.verdict is OutputVerdict.INCONCLUSIVE
    assert result.no_evidence == 10
    assert result.note.startswith("2 elements are NaN or infinite")
    candidate[: int(FACTOR) + 20] = np.inf
    result = compare_output("y", "L", original, [variant], candidate)
    assert result.verdict is OutputVerdict.DIFFERS, "far more than the original's own rounding does"


def test_infinity_that_no_rounding_explains_differs_and_is_never_the_same() -> None:
    candidate = A.copy()
    candidate[3] = np.inf
    for original, other in ((A, candidate), (candidate, A)):
        result = compare_output("y", "L", original, [original, original], other)
        assert (result.verdict, result.numbers()) == (OutputVerdict.DIFFERS, "differs")
        assert result.note == "1 element is NaN or infinite, and something else in the other model"


def test_another_shape_or_dtype_differs() -> None:
    assert verdict(A[:5]) is OutputVerdict.DIFFERS
    assert verdict(A.astype(np.float64)) is OutputVerdict.DIFFERS
    moving = compare_output("y", "L", A, [A[:9]], A[:5])
    assert moving.verdict is OutputVerdict.INCONCLUSIVE, "the original's shape is rounding too"


def test_integers_and_strings_are_exact() -> None:
    for values in (np.arange(9), np.arange(9) > 4, np.array(["a", "b"], dtype=object)):
        other = values.copy()
        other[0] = values[-1]
        same = compare_output("y", "L", values, [values], values)
        assert same.verdict is OutputVerdict.AGREES
        assert compare_output("y", "L", values, [values], other).verdict is OutputVerdict.DIFFERS
        noisy = compare_output("y", "L", values, [other], other)
        assert noisy.verdict is OutputVerdict.INCONCLUSIVE


def test_an_output_that_is_gone_differs() -> None:
    [result] = compare_all("L", {"y": A}, [{"y": A}], {})
    assert result.verdict is OutputVerdict.DIFFERS


def test_against_the_truth_the_original_s_own_error_is_the_measure() -> None:
    truth = A.astype(np.float64)
    original = {"y": (truth + 1e-6).astype(np.float32)}
    good, bad = ((truth + e).astype(np.float32) for e in (4e-6, 7e-6))
    [result] = compare_with_truth({"y": truth}, [original], {"L": {"y": good}})
    assert result.verdict is OutputVerdict.AGREES
    [result] = compare_with_truth({"y": truth}, [original], {"L": {"y": bad}})
    assert result.verdict is OutputVerdict.DIFFERS


def test_small_float_types_are_floats() -> None:
    assert is_float(np.zeros(1, ml_dtypes.bfloat16))
    assert is_float(np.zeros(1, ml_dtypes.float8_e4m3fn))
    assert not is_float(np.zeros(1, ml_dtypes.int4))
    assert unit_roundoff(np.dtype(ml_dtypes.bfloat16)) == 2**-8
    assert unit_roundoff(np.dtype(np.float16)) == 2**-11


def test_an_output_without_elements_shows_nothing() -> None:
    nothing = np.zeros((0, 4), np.float32)
    result = compare_output("y", "L", nothing, [nothing], nothing)
    assert result.verdict is OutputVerdict.INCONCLUSIVE


def test_large_outputs_are_compared_to_the_last_element() -> None:
    large = np.random.default_rng(1).standard_normal((3, 50_001)).astype(np.float32)
    wrong, gone = large.copy(), large.copy()
    wrong[-1, -1] += 1
    gone[-1, -1] = np.nan
    assert distance(large, wrong) == pytest.approx(1, rel=1e-6)
    assert compare_output("y", "L", large, [large], large).verdict is OutputVerdict.AGREES
    assert compare_output("y", "L", large, [large], wrong).verdict is OutputVerdict.DIFFERS
    missing = compare_output("y", "L", large, [large], gone)
    assert missing.verdict is OutputVerdict.DIFFERS
    assert missing.note.startswith("1 element is NaN")
    both = compare_output("y", "L", gone, [gone], gone)
    assert (both.verdict, both.no_evidence) == (OutputVerdict.AGREES, 1)
