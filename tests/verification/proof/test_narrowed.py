"""A candidate that takes less than the original is told so."""

from collections.abc import Sequence

import onnx
import pytest
from handfold import fold, network

from bnfold.command_line.text import verification_text
from bnfold.verification import Verdict, VerifyOptions, verify
from bnfold.verification.proof.interface import narrowed_inputs

Dims = Sequence[int | str | None] | None


def taking(dims: Dims) -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims)
    graph = onnx.helper.make_graph([], "g", [value], [])
    return onnx.helper.make_model(graph)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (["N", 3, None], [1, 3, None], "input 'x' takes [1, 3, ?] only, in the original [N, 3, ?]"),
        (None, [1, 3], "input 'x' takes [1, 3] only, in the original any shape"),
        (["N", 3], ["batch", 3], None),
        ([1, 3], [1, 3], None),
        ([1, 3], ["N", 3], None),
        ([1, 3], None, None),
    ],
)
def test_inputs(before: Dims, after: Dims, text: str | None) -> None:
    found = narrowed_inputs(taking(before), taking(after))
    assert found == (() if text is None else (text,))


@pytest.mark.slow
def test_a_batch_that_was_frozen_is_told() -> None:
    free = network(0)
    free.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    folded, _ = fold(free)
    folded.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found = verify(free, folded)
    assert found.verdict is Verdict.FAILED
    assert "takes [1, 3, 12, 12] only" in found.reason
    found = verify(free, folded, options=VerifyOptions(allow_narrowed=True))
    assert found.verdict is Verdict.PASSED
    [sentence] = found.structure.narrowed
    assert sentence.startswith("input 'x' takes [1, ")
    assert sentence in verification_text(found, verbose=False, width=None)
