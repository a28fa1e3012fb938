"""The files of a report: their sizes and digests."""

import hashlib
from pathlib import Path

from commandline import convolution, load, model_in, write

import bnfold
from bnfold.reports.file_record import FileRecord


def test_digests_are_made_when_asked_for(tmp_path: Path) -> None:
    source = write(convolution(), tmp_path / "net.onnx")
    assert FileRecord.of(source, digest=False).sha256 is None
    report = bnfold.fold_file(source, verify=None, digest=False)
    assert report.source.sha256 is None
    assert report.source.size == source.stat().st_size
    assert load(tmp_path / "net.folded.onnx").graph.node


def test_the_source_of_a_report_is_what_was_read(tmp_path: Path) -> None:
    source = model_in(tmp_path)
    data = source.read_bytes()
    report = bnfold.fold_file(source, in_place=True, verify=None)
    assert report.source.size == len(data)
    assert report.source.sha256 == hashlib.sha256(data).hexdigest()
    assert report.target is not None
    assert report.target.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
