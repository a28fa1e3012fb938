"""The verifier's table knows every operator of the folder's tables, and proves what they fold.

A fold is proved here as the command line does it, by `bnfold.fold_file`: planned, saved, read
again from both files, proved, concluded. The one thing left out is ONNX Runtime: the child process
that would run both models answers that it has no provider, so that the files alone must do. A few
of them are run in earnest, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import linear_steps
import numpy as np
import onnx
import pytest
import rowcases
from evaluation import run
from proving import NoProvider

import bnfold
from bnfold.rules.affine_nodes import AFFINE
from bnfold.rules.carry import CARRY
from bnfold.rules.linear import LINEAR
from bnfold.rules.passage import Blind
from bnfold.verification import verifier
from bnfold.verification.operators.table import TABLE, Kind
from bnfold.verification.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[[str, int, int], rowcases.Case]

_FEW, _MANY = range(2), range(2, 24)
_MOVED = sorted(name for name, row in CARRY.items() if not isinstance(row, Blind))
_BUILDS: list[tuple[Build, list[str]]] = [
    (rowcases.carried_up, _MOVED),
    (rowcases.carried_down, _MOVED),
    (rowcases.linear_output, sorted(linear_steps.SOURCES)),
    (rowcases.linear_input, sorted({*linear_steps.READERS, *linear_steps.CELLS})),
    (rowcases.affine_row, sorted(AFFINE)),
]
_ROWS = [
    pytest.param(build, op_type, id=f"{build.__name__}-{op_type}")
    for build, op_types in _BUILDS
    for op_type in op_types
]


def test_every_operator_of_the_folder_has_a_row() -> None:
    passed = {
        name for name, row in TABLE.items() if row.magnitude or row.kind is Kind.SHAPE or row.cell
    }
    missing = {*AFFINE, *LINEAR, *CARRY} - passed
    assert not missing, f"without a magnitude in the verifier's table: {sorted(missing)}"
    assert all(row.weight for row in TABLE.values() if row.is_linear)
    assert all(TABLE[name].is_affine for name in AFFINE)


@pytest.mark.parametrize(("build", "op_type"), _ROWS)
def test_what_a_row_folds_is_proved(
    build: Build, op_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "Worker", NoProvider)
    _check(build, op_type, _FEW, tmp_path)


def _check(build: Build, op_type: str, seeds: range, tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    for seed in seeds:
        case = build(op_type, seed, onnx.TensorProto.FLOAT)
        source.write_bytes(case.model.SerializeToString())
        try:
            report = bnfold.fold_file(source, target, digest=False)
        except bnfold.VerificationError as error:
            if "depends on nothing that enters" in str(error) and _is_constant(case):
                continue
            text = onnx.printer.to_text(case.model)
            raise AssertionError(f"{build.__name__} {op_type} {seed}: {error}\n{text}") from error
        if report.folds:
            assert report.verification is not None
            assert report.verification.verdict is Verdict.PASSED_BY_PROOF


def _is_constant(case: rowcases.Case) -> bool:
    """Whether a network reads nothing but padding, so that no input shows in its outputs."""
    feeds = case.net.feeds()
    shifted = {name: value + 1.0 for name, value in feeds.items()}
    outputs = zip(run(case.model, feeds), run(case.model, shifted), strict=True)
    return any(np.array_equal(one, other) for one, other in outputs)


@pytest.mark.full
@pytest.mark.parametrize(("build", "op_type"), _ROWS)
def test_whatever_a_row_folds_is_proved(
    build: Build, op_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "Worker", NoProvider)
    _check(build, op_type, _MANY, tmp_path)


_NORMALIZED = "BatchNormalization <epsilon = 0.5> ({}, g, b, e, v)"
_ERRING = {
    "opset 8": (8, f"""
        c = Conv (x, W)  u = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0]> (c)
        m = GlobalMaxPool (c)  y = {_NORMALIZED.format("u")}  z = {_NORMALIZED.format("m")}"""),
    "opset 10": (10, f"""
        c = Conv (x, W)  d = Conv (x, V)  r = Resize <mode = "linear"> (c, scales)
        m = GlobalMaxPool (d)  y = {_NORMALIZED.format("r")}  z = {_NORMALIZED.format("m")}"""),
    "opset 18": (18, f"""
        c = Conv (x, W)  d = Conv (x, V)
        r = Resize <mode = "cubic", antialias = 1> (c, , lower)
        s = Resize <mode = "cubic", axes = [2], keep_aspect_ratio_policy = "not_larger">
            (d, , , longer)
        m = GlobalMaxPool (s)
        y = {_NORMALIZED.format("r")}  z = {_NORMALIZED.format("m")}"""),
    "opset 13": (13, f"""
        c = Conv (x, W)  d = Conv (x, V)  r = Resize <mode = "cubic"> (c, , scales)
        m = GlobalMaxPool (d)  y = {_NORMALIZED.format("r")}  z = {_NORMALIZED.format("m")}"""),
}  # fmt: skip


@pytest.mark.parametrize("opset", _ERRING)
def test_what_the_reference_evaluator_errs_on_passes_the_whole_verification(
    opset: str, tmp_path: Path
) -> None:
    version, nodes = _ERRING[opset]
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : {version}]>
        g (float[n,2,6] x) => (float[n,2,l] y, float[n,2,1] z)
        <float[2,2,1] W = {{1, 2, 3, 4}}, float[2,2,1] V = {{4, 3, 2, 1}}, float[2] g = {{2, 6}},
         float[2] b = {{1, 2}}, float[2] e = {{1, 1}}, float[2] v = {{1, 4}},
         float[3] scales = {{1, 1, 1.5}}, float[3] lower = {{1, 1, 0.4}}, int64[1] longer = {{9}}>
        {{ {nodes} }}""")
    source = tmp_path / "model.onnx"
    source.write_bytes(model.SerializeToString())
    report = bnfold.fold_file(source)
    assert report.after.batch_normalizations == 0
    assert report.verification is not None
    assert report.verification.ok
