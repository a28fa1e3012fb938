"""What is computed chunk by chunk is what is computed at once, and takes little room."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from proving import proved

import bnfold
from bnfold.files.opened import open_model
from bnfold.verification.operators import chunks
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.proof.computing import (
    tracked_in_chunks,
    tracked_of,
    value_in_chunks,
    value_of,
    weights_of,
)
from bnfold.verification.proof.cone import Cone, cut
from bnfold.verification.proof.scopes import graph_scope

SHAPES = {
    "W": (8, 4, 3, 3), "V": (8, 4, 1, 1), "b": (8,), "s": (8, 1, 1), "low": (), "high": (),
    "row": (6,), "g": (8,), "t": (8,), "m": (8,), "v": (8,),
}  # fmt: skip
CHUNKED = [
    "y = Conv <pads = [1,1,1,1]> (x, W, b)",
    "y = Conv <kernel_shape = [3,3]> (x, W)",
    "y = Conv <strides = [2,2], pads = [1,1,1,1]> (x, W, b)",
    "c = Conv (x, V) y = Relu (c)",
    "c = Conv (x, V) y = Clip (c, low, high)",
    "c = Conv (x, V) d = Mul (c, s) y = Add (row, d)",
    "c = Conv (x, V) y = BatchNormalization (c, g, t, m, v)",
    "c = Conv (x, V) d = Conv (x, V, b) e = Neg (d) y = Sum (c, e, s)",
    "c = Conv (x, V) d = Relu (c) y = Sub (c, d)",
    "c = Conv (x, V) d = Neg (x) y = Concat <axis = 1> (d, c, x)",
    "c = Conv (x, V) y = Concat <axis = -1> (c, c)",
    "c = Conv (x, V) t0 = Transpose <perm = [0,2,3,1]> (c) y = Concat <axis = 3> (t0, t0)",
    "c = Conv (x, V) y = Transpose (c)",
    "c = Conv (x, V) y = Reshape (c, flat)",
    "c = Conv (x, V) d = Reshape (c, flat) e = Relu (d) y = Reshape (e, deep)",
    "c = Conv (x, V) y = Reshape (c, likewise)",
]
AT_ONCE = [
    "c = Conv (x, V) y = Reshape (c, mixed)",
    "c = Conv (x, V) y = MaxPool <kernel_shape = [2,2]> (c)",
    "c = Conv (x, V) y = Softmax <axis = 1> (c)",
    "y = Conv <group = 4> (x, Z)",
]


def cone_of(text: str, folder: Path) -> Cone:
    """Return what y is computed from in a model of some nodes."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        f" g (float[2,4,6,6] x, float[2,8,5,6] n) => (float y) {{ {text} }}"
    )
    stored = {name: rng.uniform(0.5, 2, shape) for name, shape in SHAPES.items()}
    stored |= {"Z": rng.standard_normal((8, 1, 3, 3)), "W": rng.standard_normal(SHAPES["W"])}
    stored |= {"V": rng.standard_normal(SHAPES["V"]), "low": np.array(-1.0)}
    lengths = {
        "flat": [2, 8, 36],
        "deep": [0, 8, 6, 6],
        "likewise": [0, 0, -1],
        "mixed": [2, 4, 72],
        "odd": [2, 7, 36],
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in lengths.items()
    )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with open_model(path) as opened:
        made = cut(graph_scope(opened, opened.proto.graph), "y", lambda _: False, 99)
        assert made is not None
        weights_of(made)
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything count as large, and chunks have a few elements."""
    monkeypatch.setattr(chunks, "LARGE", 1)
    monkeypatch.setattr(chunks, "_CHUNK", 200)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("text", [*CHUNKED, *AT_ONCE])
def test_chunks_are_parts_of_the_whole(tmp_path: Path, text: str) -> None:
    cone = cone_of(text, tmp_path)
    weights = weights_of(cone)
    leaves = {"x": np.random.default_rng(1).standard_normal((2, 4, 6, 6))}
    in_chunks = value_in_chunks(cone, weights, leaves)
    assert in_chunks.is_recipe == (text in CHUNKED)
    whole = value_of(cone, weights, leaves)
    assert in_chunks.shape == whole.shape
    np.testing.assert_allclose(in_chunks.joined(), whole, rtol=1e-13, atol=1e-13)
    assert sum(chunk.size for chunk in in_chunks) == whole.size
    if "Softmax" in text:
        return
    tracked, known = tracked_in_chunks(cone, weights, leaves), tracked_of(cone, weights, leaves)
    joined = tracked.joined()
    np.testing.assert_allclose(joined.value, known.value, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(joined.magnitude, known.magnitude, rtol=1e-13)
    assert joined.constant == known.constant


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "text",
    [
        "c = Conv (x, V) d = Reshape (c, deep) y = Concat <axis = 1> (d, n)",
        "c = Conv (x, V) y = Concat <axis = 5> (c, c)",
        "c = Conv (x, V) y = Add (c, V)",
        "c = Conv (x, V) y = Reshape (c, odd)",
        "c = Conv (x, V) y = BatchNormalization (c, row, row, row, row)",
        "y = Conv (x, Z)",
    ],
)
def test_what_does_not_fit_is_told_as_it_is_of_the_whole(tmp_path: Path, text: str) -> None:
    cone = cone_of(text, tmp_path)
    leaves = {"x": np.ones((2, 4, 6, 6)), "n": np.ones((2, 8, 5, 6))}
    for compute in (value_of, value_in_chunks, tracked_in_chunks):
        with pytest.raises(EvaluationError):
            compute(cone, weights_of(cone), {n: leaves[n] for n in cone.leaves})


@pytest.mark.usefixtures("small")
def test_what_many_branches_read_is_not_computed_for_each_of_very_many(tmp_path: Path) -> None:
    doubled = [f"d{i + 1} = Add (d{i}, d{i})" for i in range(40)]
    cone = cone_of(f"d0 = Conv (x, V) {' '.join(doubled)} y = Relu (d40)", tmp_path)
    leaves = {"x": np.ones((2, 4, 6, 6))}
    made = value_in_chunks(cone, weights_of(cone), leaves).joined()
    np.testing.assert_allclose(made, value_of(cone, weights_of(cone), leaves))


def pictures(size: int, branches: int, channels: int = 16) -> onnx.ModelProto:
    """Return a network whose Reshapes say how large its pictures are."""
    rng = np.random.default_rng(0)
    wide = branches * channels
    flat = [f"r{b} = Reshape (c{b}, flat)" for b in range(branches)]
    nodes = [f"c{b} = Conv (x, W{b}) {text}" for b, text in enumerate(flat)]
    text = (
        f"{' '.join(nodes)} j = Concat <axis = 1> ({', '.join(f'r{b}' for b in range(branches))})"
        " n = BatchNormalization (j, g, t, m, v) y = Reshape (n, deep)"
    )
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        f" g (float[1,3,{size},{size}] x) => (float[1,{wide},{size},{size}] y)"
        f" {{ {text} }}"
    )
    stored = {f"W{b}": rng.standard_normal((channels, 3, 1, 1)) for b in range(branches)}
    stored |= {name: rng.uniform(0.5, 2, wide) for name in "gtmv"}
    lengths = {"flat": [1, channels, size * size], "deep": [1, wide, size, size]}
    model.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in lengths.items()
    )
    return model


@pytest.mark.slow
def test_pictures_that_cannot_be_cut_are_proved_in_little_room(tmp_path: Path) -> None:
    model = pictures(224, 8)
    folding = bnfold.fold(model)
    output = 8 * math.prod((1, 128, 224, 224))
    tracemalloc.start()
    proof = proved(tmp_path, model, folding.model, list(folding.regions))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert proof.structure.proved
    assert peak < output, "the output alone, of one model and without its magnitude"


@pytest.mark.parametrize("name", ["c5", "W2"])
def test_a_wrong_number_behind_a_large_picture_is_found(tmp_path: Path, name: str) -> None:
    model = pictures(64, 6)
    folding = bnfold.fold(model)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(folding.model)
    node = next(n for n in wrong.graph.node if name in {*n.input[:2], *n.output})
    tensor = next(
        t for t in wrong.graph.initializer if t.name == node.input[2 if name == "c5" else 1]
    )
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[7] += 1e-3
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    proof = proved(tmp_path, model, wrong, list(folding.regions))
    assert not proof.structure.proved
    (probe,) = (probe for probe in proof.probes if probe.fraction > 1)
    assert "times the rounding bound" in probe.note
