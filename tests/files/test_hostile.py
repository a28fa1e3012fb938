"""A short run of what the fuzz targets do for hours."""

from pathlib import Path
from random import Random

import pytest
from handmade import everywhere
from hostile import fold_it, read_and_write
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate

MODELS = Path(__file__).parents[2] / "models"
SEEDS = {p.name: p.read_bytes() for p in MODELS.glob("*.onnx") if p.stat().st_size < 1 << 16}
SEEDS["everywhere"] = everywhere().SerializeToString()

names, numbers = st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32)


@given(name=names, number=numbers)
@settings(max_examples=300)
def test_a_broken_model_is_saved_as_it_was_or_refused(
    name: str, number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = mutate(SEEDS[name], Random(number))  # noqa: S311
    read_and_write(data, tmp_path_factory.getbasetemp())


@given(name=names, number=numbers)
@settings(max_examples=60)
def test_a_broken_model_is_folded_or_refused(name: str, number: int) -> None:
    fold_it(mutate(SEEDS[name], Random(number)))  # noqa: S311


@given(st.binary(max_size=2000))
def test_garbage_is_refused(data: bytes) -> None:
    fold_it(data)
