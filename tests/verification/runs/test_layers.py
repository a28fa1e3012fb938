from pathlib import Path

import numpy as np
import pytest
from handfold import Parameters, fold, network

from bnfold.verification.comparison import OutputVerdict
from bnfold.verification.runs import layers
from bnfold.verification.runs.layers import compare_layers, tap
from bnfold.verification.runs.providers import CPU
from bnfold.verification.runs.sessions import DISABLE_ALL, CannotRunError

NAMES = ["stem_bn", "c0_bn", "c1_bn", "c2_bn", "c3_bn"]


def wrong_from_c2(name: str, p: Parameters) -> Parameters:
    return {**p, "beta": p["beta"] + 0.1} if name == "c2_bn_node" else p


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    model = network(0)
    paths = tmp_path / "old.onnx", tmp_path / "new.onnx"
    paths[0].write_bytes(model.SerializeToString())
    paths[1].write_bytes(fold(model, wrong_from_c2)[0].SerializeToString())
    return paths


FEED = {"x": np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)}


def test_the_first_wrong_layer_ends_the_search(models: tuple[Path, Path]) -> None:
    found = compare_layers(models, NAMES, CPU, [FEED], everything=False)
    verdicts = {layer.name: layer.verdict for layer in found}
    assert verdicts["c1_bn"] is OutputVerdict.AGREES
    assert verdicts["c2_bn"] is OutputVerdict.DIFFERS


def test_a_small_budget_takes_fewer_layers_at_a_time(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_FIRST", 1)
    monkeypatch.setattr(layers, "_BUDGET", 1)
    found = compare_layers(models, NAMES, CPU, [FEED], everything=False)
    assert [layer.name for layer in found] == NAMES[:4], "c3 was not even looked at"
    assert len(compare_layers(models, NAMES, CPU, [FEED], everything=True)) == 5


def test_a_tap_changes_no_file(models: tuple[Path, Path]) -> None:
    before = models[0].read_bytes()
    tensors = tap(models[0], ["c1", "c1_bn"], DISABLE_ALL, CPU, FEED)
    assert {name: array.shape for name, array in tensors.items()} == {
        "c1": (1, 8, 12, 12), "c1_bn": (1, 8, 12, 12)
    }  # fmt: skip
    assert models[0].read_bytes() == before


def test_a_tensor_that_is_not_there_cannot_be_tapped(models: tuple[Path, Path]) -> None:
    with pytest.raises(CannotRunError):
        tap(models[0], ["no such tensor"], DISABLE_ALL, CPU, FEED)
