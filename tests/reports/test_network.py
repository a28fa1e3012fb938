"""What a page draws of a network."""

from pathlib import Path

from commandline import model_in, run

import bnfold
from bnfold.api import fold_with
from bnfold.options import FileOptions


def test_operators_and_what_became_of_them(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path, "kept"))
    network = report.network
    assert network is not None
    nodes = network.nodes
    assert len(network.folds) == len(report.folds)
    for place, fold in zip(network.folds, report.folds, strict=True):
        assert [nodes[n] for n in place.taken] == list(fold.taken)
        assert [nodes[n] for n in place.into] == list(fold.into)
    for places, kept in zip(network.kept, report.kept, strict=True):
        assert [nodes[n] for n in places] == list(kept.nodes)
    assert len(nodes) == report.before.nodes
    assert {other for _, other in network.edges} | {0} == set(range(len(nodes)))


def test_each_fold_knows_the_region_that_proves_it(tmp_path: Path) -> None:
    report = bnfold.fold_file(model_in(tmp_path, "mixnet"))
    assert report.network is not None
    assert report.verification is not None
    regions = {place.region for place in report.network.folds} - {None}
    assert regions == {probe.region for probe in report.verification.probes}


def test_the_data_say_nothing_of_it_and_nobody_pays_for_what_is_not_drawn(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    assert "network" not in bnfold.fold_file(source, check=True).to_dict()
    how = FileOptions(verify=None, check=True, picture=False)
    assert fold_with(source, None, how).network is None
    run("digits.onnx", "--check", "--report", "r.html", cwd=tmp_path)
    assert "digits.onnx" in (tmp_path / "r.html").read_text(encoding="utf-8")
