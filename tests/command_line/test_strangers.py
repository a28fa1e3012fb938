"""Models as strangers write them go through the verifying flow, and compute what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

_PARAMETERS = """float[4] g = {1, 2, 3, 0.5}, float[4] b = {1, -2, 3, 4},
    float[4] m = {0.5, 1, -1, 2}, float[4] v = {1, 4, 0.25, 2}"""
_W = "float[4,2,1,1] W = {1, -2, 3, 4, 0.5, 6, -7, 0.25}"
_IN = "g (float[2,2,3,3] x) => (float[2,4,3,3] y)"

CASES = {
    "training by the count of outputs": (
        f"""{_IN} <{_W}, {_PARAMETERS}> {{ c = Conv (x, W)
            n = BatchNormalization (c, g, b, m, v) a = Relu (n)
            y, o, p, q, r = BatchNormalization (a, g, b, m, v) }}""", 9, 1,
    ),
    "nodes in no order": (
        f"""{_IN} <{_W}, {_PARAMETERS}> {{ y = Relu (n)
            n = BatchNormalization (c, g, b, m, v) c = Conv (x, W) }}""", 17, 0,
    ),
    "a stale remark": (
        f"""{_IN} <{_W}, {_PARAMETERS}, float[2,7,3] c> {{ c = Conv (x, W)
            y = BatchNormalization (c, g, b, m, v) }}""", 17, 0,
    ),
    "a rank that an operator tells": (
        f"""g (float[2,4,3,3] x, int64[3] s) => (float[] y)
            <float[4,2] M = {{1, 2, 3, 4, 5, 6, 7, 8}},
             {_PARAMETERS}>
            {{ r = Reshape (x, s) n = BatchNormalization (r, g, b, m, v)
               t = Transpose <perm = [0, 2, 1]> (n) y = MatMul (t, M) }}""", 17, 0,
    ),
    "rows of a matrix, and a constant over the width": (
        f"""g (float[2,2,1,3] x) => (float[] y)
            <{_W}, float[3] k = {{1, 2, 3}}, float[3,2] M = {{1, 2, 3, 4, 5, 6}}, float one = {{1}},
             float[4,1] s = {{1, 2, 0.5, 4}}, {_PARAMETERS}>
            {{ c = Conv (x, W) a = Add (c, k) n = BatchNormalization (a, g, b, m, v)
               i = Mul (n, one) r = Relu (i) p = MatMul (r, M) y = Mul (p, s) }}""", 17, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_they_are_folded_and_verified(tmp_path: Path, case: str) -> None:
    text, opset, left = CASES[case]
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    source, target = tmp_path / "m.onnx", tmp_path / "f.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source, target)
    assert report.verification is not None
    assert report.verification.ok, report.verification.reason
    assert report.after.batch_normalizations == left
    dice = np.random.default_rng(0)
    feeds = {
        value.name: np.array([2, 4, 9])
        if value.name == "s"
        else dice.normal(size=[d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in model.graph.input
    }
    feeds = {name: a if name == "s" else a.astype(np.float32) for name, a in feeds.items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    old, new = (
        onnxruntime.InferenceSession(str(path), options).run(None, feeds)
        for path in (source, target)
    )
    np.testing.assert_allclose(new[0], old[0], rtol=1e-4, atol=1e-4)
