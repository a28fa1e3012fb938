"""What is known of shapes where a model's remarks are wrong, or inference does not get on."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from bnfold.onnx_model.annotations import shape_of
from bnfold.onnx_model.inference import infer
from bnfold.onnx_model.ranks import output_shape

_HEAD = '<ir_version: 8, opset_import: ["" : 17, "own" : 1, "com.microsoft" : 1]>'
Dims = tuple[int | str | None, ...]


def shapes(text: str, remarks: dict[str, Dims] | None = None) -> dict[str, Dims | None]:
    """Return the shapes that are found for a graph `x => y` with a weight W, by name."""
    model = onnx.parser.parse_model(f"{_HEAD}\n{text}")
    for name, dims in (remarks or {}).items():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        model.graph.value_info.append(value)
    before = model.SerializeToString(deterministic=True)
    graph = infer(model).graph
    assert model.SerializeToString(deterministic=True) == before
    return {value.name: _plain(shape_of(value)) for value in (*graph.value_info, *graph.output)}


def _plain(shape: Dims | None) -> Dims | None:
    """Return a shape without the symbols that inference makes up."""
    return shape and tuple(None if str(dim).startswith("unk__") else dim for dim in shape)


def rank(shape: Dims | None) -> int | None:
    return None if shape is None else len(shape)


_CHAIN = """
g (float[2,3,8,8] x, float[4,3,1,1] W, float[4] b) => (float[2,4,8,8] y)
{ c = Conv (x, W) r = Relu (c) y = Sigmoid (r) }"""


@pytest.mark.parametrize("stale", [(2, 6, 8, 8), (2, 4, 8), (), (1, 4, 8, 8)])
def test_inference_counts_more_than_a_stale_remark(stale: Dims) -> None:
    found = shapes(_CHAIN, {"c": stale})
    assert found == dict.fromkeys("cry", (2, 4, 8, 8))
    assert shapes(_CHAIN, {"r": stale}) == found


def test_a_stale_remark_on_an_output_does_not_count() -> None:
    found = shapes(_CHAIN.replace("(float[2,4,8,8] y)", "(float[7] y)"))
    assert found["y"] == (2, 4, 8, 8)


def test_a_free_input_stays_free_whatever_is_remarked() -> None:
    found = shapes(_CHAIN.replace("float[2,3,8,8] x", "float[N,3,8,8] x"), {"c": (1, 4, 8, 8)})
    assert found["c"] == ("N", 4, 8, 8)


def test_a_remark_adds_what_inference_does_not_know() -> None:
    text = """
        g (float[2,3,8,8] x, float[4,3,1,1] W) => (float[] y)
        { a = own.Unknown (x) c = Conv (a, W) y = Relu (c) }"""
    assert shapes(text)["y"] == (None, 4, None, None)
    assert shapes(text, {"a": (2, 3, 5, 5)})["y"] == (2, 4, 5, 5)
    assert shapes(text, {"a": (2, 3, 5, 5), "c": (2, 9, 5, 5)})["c"] == (2, 4, 5, 5)
    # What reads it knows better: three channels enter.
    assert shapes(text, {"a": (2, 6, 5, 5)})["a"] == (None, 3, None, None)


RANKS = {
    "a shape of so many elements": ("r = Reshape (a, s)", 3),
    "a permutation": ("r = Transpose <perm = [0, 2, 1]> (a)", 3),
    "a weight": ("r = Conv (a, W)", 4),
    "a transposed one": ("r = ConvTranspose (a, W)", 4),
    "matrices": ("r = Gemm (a, M)", 2),
    "another part": ("q = Conv (a, W) p = own.Unknown (q) r = Concat <axis = 1> (p, q)", 4),
    "a window": ("r = MaxPool <kernel_shape = [2, 2]> (a)", 4),
    "a window behind another": (
        "p = Conv (a, W) r = AveragePool <kernel_shape = [2, 2]> (p)", 4,
    ),
    "a matrix": ("r = Flatten (a)", 2),
    "a picture": ("r = DepthToSpace <blocksize = 2> (a)", 4),
    "sizes": ("r = Resize (a, , , s)", 3),
    "amounts": ("r = Pad (a, p6)", 3),
    "repeats": ("r = Tile (a, s)", 3),
    "what it keeps": ("p = Reshape (a, s) q = Erf (p) r = com.microsoft.Gelu (q)", 3),
    "its only reader": ("r = own.Unknown (a) t = Conv (r, W)", 4),
    "its reader's reader": ("r = own.Unknown (a) t = Relu (r) u = Conv (t, W)", 4),
    "nothing": ("r = own.Unknown (a)", None),
}  # fmt: skip


@pytest.mark.parametrize("by", RANKS)
def test_an_operator_tells_the_rank_behind_one_that_is_not_known(by: str) -> None:
    nodes, expected = RANKS[by]
    found = shapes(f"""
        g (float[2,3,8,8] x, int64[3] s, int64[6] p6, float[4,3,1,1] W, float[5,7] M) => (float[] y)
        {{ a = own.Unknown (x) {nodes} y = own.Unknown (r) }}""")
    assert rank(found.get("r")) == expected


def test_the_channels_of_a_weight_are_told_too() -> None:
    found = shapes("""
        g (float[2,3,8,8] x, float[4,3,1,1] W, float[3,5,1,1] V) => (float[] y)
        { a = own.Unknown (x) b = Conv <group = 2> (a, W) c = own.Unknown (b)
          d = ConvTranspose <group = 3> (c, V) y = own.Unknown (d) }""")
    assert found["a"] == (None, 6, None, None)
    assert found["b"] == (None, 4, None, None)
    assert found["c"] == (None, 3, None, None)
    assert found["d"] == (None, 15, None, None)


def test_what_follows_is_inferred_anew() -> None:
    found = shapes("""
        g (float[2,3,8,8] x, int64[3] s, float[5,7] M) => (float[] y)
        { a = own.Unknown (x) r = Reshape (a, s) t = MatMul (r, M) u = Unsqueeze (t, one)
          one = Constant <value_ints = [1]> () y = own.Unknown (u) }""")
    assert rank(found["t"]) == 3
    assert rank(found["u"]) == 4


def test_nodes_need_not_be_in_order() -> None:
    found = shapes("""
        g (float[2,3,8,8] x, bool q, float[4,3,1,1] W) => (float[] y)
        { y = If (q) <
            then_branch = t () => (float[] t3) { t3 = Neg (t2) t2 = Relu (r) },
            else_branch = e () => (float[] e1) { e1 = Identity (r) }>
          r = Relu (c) c = Conv (x, W) }""")
    assert found["r"] == (2, 4, 8, 8)
    assert found["y"] == (2, 4, 8, 8)


def test_a_list_that_is_longer_than_any_shape_tells_none() -> None:
    node = helper.make_node("Tile", ["x", "repeats"], ["y"])
    assert output_shape(node, [None, (3,)]) == (None,) * 3
    assert output_shape(node, [None, (2**31 - 1,)]) is None
