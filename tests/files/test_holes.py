"""A file may declare a terabyte and hold nothing, which is neither read nor copied."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from handmade import model, tensor

from bnfold.files import open_model, save_model

_SIZE = 1 << 36

pytestmark = pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="holes are not told here")


def _sparse(path: Path, changes: dict[int, float]) -> Path:
    """Write a model whose one tensor has 64 GiB of zeros, but for some elements."""
    made = model([tensor("w")])
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[:] = [_SIZE // 4]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=f"{path.name}.bin")
    path.write_bytes(made.SerializeToString())
    with path.with_name(f"{path.name}.bin").open("wb") as file:
        file.truncate(_SIZE)
        for index, value in changes.items():
            file.seek(4 * index)
            file.write(np.float32(value).tobytes())
    if path.with_name(f"{path.name}.bin").stat().st_blocks > _SIZE >> 12:
        pytest.skip("this file system has no holes")
    return path


def test_a_copy_is_as_sparse_and_the_same(tmp_path: Path) -> None:
    written = {0: 1.0, 12_345_678_901: 2.0, _SIZE // 4 - 1: 3.0}
    for number, changes in enumerate((written, {}, {5: 1.0})):
        source = _sparse(tmp_path / f"{number}.onnx", changes)
        target = tmp_path / f"{number}.copy.onnx"
        with open_model(source) as opened:
            save_model(opened, opened.proto, {}, target)
        data = target.with_name(f"{target.name}.data")
        assert data.stat().st_size == _SIZE
        assert data.stat().st_blocks < 1000
        with open_model(source) as one, open_model(target) as two:
            first, second = (m.slice_of(m.proto.graph.initializer[0]) for m in (one, two))
            assert first.same(second)
            for index, value in changes.items():
                stored = second.store.read(second.offset + 4 * index, 4)
                assert stored == np.float32(value).tobytes()


@pytest.mark.parametrize("index", [0, 1_000_003, _SIZE // 4 - 1])
def test_one_element_among_zeros_is_seen(tmp_path: Path, index: int) -> None:
    paths = [_sparse(tmp_path / name, changes) for name, changes in
             {"a.onnx": {}, "b.onnx": {index: 1.0}, "c.onnx": {index: 0.0}}.items()]  # fmt: skip
    with open_model(paths[0]) as a, open_model(paths[1]) as b, open_model(paths[2]) as c:
        zeros, other, same = (m.slice_of(m.proto.graph.initializer[0]) for m in (a, b, c))
        assert not zeros.same(other)
        assert not other.same(zeros)
        assert zeros.same(same), "zeros that are written are zeros"
        assert other.same(other)
        assert not zeros.part(0, 8).same(zeros.part(0, 4))
