"""NaN and infinity in a model's numbers: nobody is accused of what the original has."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import write
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.verification import Verdict, VerifyOptions, verify

CPU = VerifyOptions(("cpu",))
DICE = np.random.default_rng(11)
STORED = {
    "W": DICE.normal(size=(4, 3, 3, 3)),
    "gamma": DICE.uniform(0.5, 1.5, 4),
    "beta": DICE.normal(size=4),
    "mean": DICE.normal(size=4),
    "variance": DICE.uniform(0.3, 2.0, 4),
}


def stored(name: str = "", number: float = 0.0) -> dict[str, np.ndarray]:
    values = {key: np.asarray(array, np.float32) for key, array in STORED.items()}
    if name:
        values[name].reshape(-1)[1] = number
    return values


def network(nodes: list[onnx.NodeProto], values: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [*nodes, helper.make_node("Relu", ["n"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(np.float32(array), key) for key, array in values.items()],  # type: ignore[arg-type]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def original(values: dict[str, np.ndarray]) -> onnx.ModelProto:
    parameters = ["c", "gamma", "beta", "mean", "variance"]
    return network(
        [
            helper.make_node("Conv", ["x", "W"], ["c"]),
            helper.make_node("BatchNormalization", parameters, ["n"]),
        ],
        values,
    )


@np.errstate(all="ignore")
def candidate(values: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Fold by hand, whatever the numbers are."""
    wide = {key: array.astype(np.float64) for key, array in values.items()}
    scale = wide["gamma"] / np.sqrt(wide["variance"] + np.float32(1e-5))
    folded = {
        "W": wide["W"] * scale[:, None, None, None],
        "b": wide["beta"] - scale * wide["mean"],
    }
    return network([helper.make_node("Conv", ["x", "W", "b"], ["n"])], folded)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STORED)
def test_a_right_fold_is_proved(name: str, number: float) -> None:
    values = stored(name, number)
    if name == "gamma" and np.isinf(number):
        pytest.skip("an infinity times a sum is an infinity, the sum of such products is none")
    found = verify(original(values), candidate(values), options=CPU)
    assert found.structure.proved, found
    assert found.ok, found


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_wrong_weight_beside_it_is_seen(number: float) -> None:
    values = stored("W", number)
    wrong = {key: array.copy() for key, array in values.items()}
    wrong["W"][0, 2, 1, 1] *= np.float32(1.00001)
    assert not verify(original(values), candidate(wrong), options=CPU).structure.proved
    # Another weight of the very channel that is NaN shows in no output.
    wrong = {key: array.copy() for key, array in values.items()}
    wrong["W"][0, 2, 1, 1] *= np.float32(1.5)
    assert not verify(original(values), candidate(wrong), options=CPU).structure.proved


@pytest.mark.parametrize("name", STORED)
def test_a_nan_that_the_original_does_not_have_is_seen(name: str) -> None:
    found = verify(original(stored()), candidate(stored(name, np.nan)), options=CPU)
    assert found.verdict is Verdict.FAILED


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STORED)
def test_folding_accuses_nobody(tmp_path: Path, name: str, number: float) -> None:
    source = write(original(stored(name, number)), tmp_path / "model.onnx")
    report = bnfold.fold_file(source, tmp_path / "folded.onnx", verify=CPU)
    assert report.kept
    assert report.verification is None or report.verification.ok
