"""A bias that an exporter computed in float32 may have lost digits: nobody is accused of that."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnfold.verification import Verdict, VerifyOptions, verify

_BRANCHES = (
    "a = Conv <pads = [1, 1, 1, 1]> (x, A, p) b = Conv (x, B, q) s = Add (a, b) y = Relu (s)"
)
_ONE = "s = Conv <pads = [1, 1, 1, 1]> (x, W, r) y = Relu (s)"
_P, _Q = np.array([8.0, 0.25, -6.0]), np.array([3.0, -0.2493, 1.0])  # the second nearly cancels


def _model(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    head = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y)'
    )
    model = onnx.parser.parse_model(f"{head} {{ {body} }}")
    stored = {name: values.astype(np.float32) for name, values in constants.items()}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in stored.items())
    return model


@pytest.mark.parametrize(
    ("off", "verdict"),
    [(0.0, Verdict.PASSED), (1e-6, Verdict.INCONCLUSIVE), (1e-4, Verdict.FAILED)],
)
def test_what_may_be_lost_digits_of_a_bias_accuses_nobody(
    tmp_path: Path, off: float, verdict: Verdict
) -> None:
    dice = np.random.default_rng(5)
    a, b = dice.standard_normal((3, 2, 3, 3)), dice.standard_normal((3, 2, 1, 1))
    a, b = a.astype(np.float32), b.astype(np.float32)
    whole = a.astype(np.float64) + np.pad(b.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    bias = _P + _Q + np.array([0, off, 0])
    paths = []
    for name, model in {
        "branches": _model(_BRANCHES, A=a, B=b, p=_P, q=_Q),
        "one": _model(_ONE, W=whole, r=bias),
    }.items():
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    found = verify(*paths, options=VerifyOptions(("cpu",), time=0))
    assert found.verdict is verdict, found.reason


def test_a_bias_of_which_nothing_was_folded_is_no_such_thing(tmp_path: Path) -> None:
    paths = []
    weight = np.random.default_rng(5).standard_normal((3, 2, 3, 3))
    for off in (0.0, 1e-6):
        bias = _P + _Q + np.array([0, off, 0])
        paths.append(tmp_path / f"{off}.onnx")
        paths[-1].write_bytes(_model(_ONE, W=weight, r=bias).SerializeToString())
    assert verify(*paths, options=VerifyOptions(("cpu",), time=0)).verdict is Verdict.FAILED
