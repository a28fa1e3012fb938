"""Where to cut to see a group of folds."""

from __future__ import annotations

import onnx

import bnfold

_PARAMETERS = "float[2] g = {2, 6}, float[2] b = {1, 2}, float[2] e = {1, 1}, float[2] v = {1, 4}"


def _regions(text: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    return [(region.inputs, region.outputs) for region in bnfold.fold(model).regions]


def test_a_region_is_cut_around_each_group() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          y = Conv (x, W)
          n = BatchNormalization (y, g, b, e, v)
          r = Relu (n)
          c = Conv (r, W)
          z = BatchNormalization (c, g, b, e, v)
        }}""") == [(("x",), ("n",)), (("r",), ("z",))]


def test_folds_into_one_node_are_one_group() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          n = BatchNormalization (x, g, b, e, v)
          y = Conv (n, W)
          z = BatchNormalization (y, g, b, e, v)
        }}""") == [(("x",), ("z",))]


def test_what_is_passed_belongs_to_the_region() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x, float[1,2,2,2] u) => (float[1,2,2,2] z, int64[4] s)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          a = Conv (x, W)
          b_ = Conv (u, W)
          y = Add (a, b_)
          s = Shape (a)
          z = BatchNormalization (y, g, b, e, v)
        }}""") == [(("x", "u"), ("s", "z"))]


def test_who_reads_a_shape_in_a_merged_run_is_part_of_it() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z, int64[4] s)
        <{_PARAMETERS}>
        {{
          p = Sigmoid (x)
          y = BatchNormalization (p, g, b, e, v)
          s = Shape (y)
          z = BatchNormalization (y, g, b, e, v)
        }}""") == [(("p",), ("s", "z"))]


def test_who_reads_the_shape_of_what_is_gone_is_part_of_the_fold() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z, int64[4] s)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}, float[2,1,1] k = {{2, 3}}>
        {{
          y = Conv (x, W)
          i = Identity (y)
          s = Shape (i)
          m = Mul (i, k)
          z = BatchNormalization (m, g, b, e, v)
        }}""") == [(("x",), ("s", "z"))]


def test_what_changes_nothing_is_passed_too() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z, float[1,2,2,2] u)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          y = Conv (x, W)
          i = Identity (y)
          m = BatchNormalization (i, g, b, e, v)
          z = Sigmoid (m)
          n = BatchNormalization (i, g, b, e, v)
          u = Relu (n)
        }}""") == [(("x",), ("m", "n"))]
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z, float[1,2,2,2] u)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}>
        {{
          m = BatchNormalization (x, g, b, e, v)
          i = Identity (m)
          j = Dropout (m)
          z = Conv (i, W)
          u = Conv (j, W)
        }}""") == [(("x",), ("z", "u"))]


def test_no_region_begins_behind_what_is_dropped() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] z)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}, float one = {{1}}>
        {{
          r = Relu (x)
          m = Mul (r, one)
          y = Conv (m, W)
          z = BatchNormalization (y, g, b, e, v)
        }}""") == [(("r",), ("z",))]


def test_who_takes_over_the_name_of_an_output_is_part_of_the_fold_that_reads_it() -> None:
    assert _regions(f"""
        g (float[1,2,2,2] x) => (float[1,2,2,2] m, float[1,2,2,2] z)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, {_PARAMETERS}, float one = {{1}}>
        {{
          r = Relu (x)
          m = Mul (r, one)
          y = Conv (r, W)
          z = BatchNormalization (y, g, b, e, v)
        }}""") == [(("x",), ("m", "z"))]
