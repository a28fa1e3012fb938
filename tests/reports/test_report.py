"""Reports: what they hold, the schema, and the document that explains it."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
from commandline import ROOT, model_in, run, tampered

import bnfold
from bnfold.reasons import Reason
from bnfold.reports.report import SCHEMA_VERSION, Report
from bnfold.reports.versions import installed_versions
from bnfold.verification import Verdict, VerifyOptions

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def strict(schema: Any) -> Any:
    """Return the schema with every field forbidden that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def validate(data: Any) -> None:
    jsonschema.validate(data, strict(SCHEMA))
    json.dumps(data, allow_nan=False)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_real_reports_follow_the_schema(tmp_path: Path) -> None:
    for name in ("kept", "mixnet"):
        model_in(tmp_path, name)
    source = tmp_path / "kept.onnx"
    options = VerifyOptions(thorough=True)
    thorough = bnfold.fold_file(source, verify=options).to_dict()
    assert thorough["verification"]["layers"]
    validate(thorough)
    validate(bnfold.fold_file(source, check=True).to_dict())
    validate(bnfold.fold_file(source, verify=None).to_dict())
    through = bnfold.fold_file(tmp_path / "mixnet.onnx").to_dict()
    assert any(fold["through"] for fold in through["folds"])
    validate(through)


def test_report_files_of_the_command_line_follow_the_schema(tmp_path: Path) -> None:
    model_in(tmp_path)
    run("digits.onnx", "--report", "one.json", "-q", cwd=tmp_path)
    one = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    validate(one)
    for part, name in (("source", "digits.onnx"), ("target", "digits.folded.onnx")):
        data = (tmp_path / name).read_bytes()
        assert one[part] == {
            "path": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "data_files": [],
        }
    (tmp_path / "digits.folded.onnx").rename(tmp_path / "folded.onnx")
    words = ("digits.onnx", "missing.onnx", "folded.onnx")
    run(*words, "--report", "all.json", "-q", "--no-verify", cwd=tmp_path)
    several = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    validate(several)
    assert [entry["exit_code"] for entry in several] == [0, 2, 0]
    assert [entry["source"]["path"] for entry in several] == list(words)
    assert "missing.onnx" in several[1]["error"]
    tampered(tmp_path / "folded.onnx", tmp_path / "bad.onnx", lambda w: -w)
    run("verify", "digits.onnx", "bad.onnx", "--report", "v.json", cwd=tmp_path)
    compared = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    validate(compared)
    assert compared["exit_code"] == 3
    assert compared["verification"]["first_divergence"]


def test_one_bad_model_is_an_object_too(tmp_path: Path) -> None:
    run("missing.onnx", "--report", "r.json", cwd=tmp_path)
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    validate(data)
    assert data["exit_code"] == 2


def documented() -> Iterator[tuple[str, str]]:
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        for field in re.findall(r"^\| `([^`]+)` \| \S+", section.split("<!--")[0], re.MULTILINE):
            yield title, field


def test_every_field_is_documented_and_no_other() -> None:
    described = {
        (name, field)
        for name, definition in SCHEMA["$defs"].items()
        for field in definition.get("properties", ())
    }
    assert set(documented()) == described


def test_every_reason_is_documented_in_its_words() -> None:
    table = DOCUMENT.split("<!-- reasons -->")[1].split("<!-- end of reasons -->")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.MULTILINE)
    assert rows == [(reason.value, reason.text) for reason in Reason]


def test_every_field_of_a_report_is_in_the_schema() -> None:
    names = {field.name for field in fields(Report)}
    renamed = {"unlisted": "unlisted_inputs", "inlined": "inlined_functions"}
    told = {renamed.get(name, name) for name in names - {"checked_only", "network"}}
    assert told <= set(SCHEMA["$defs"]["report"]["properties"])
    assert SCHEMA["$defs"]["verification"]["properties"]["verdict"]["enum"] == list(Verdict)
    assert SCHEMA["$defs"]["report"]["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_versions_are_told() -> None:
    versions = installed_versions()
    assert versions["bnfold"] == bnfold.__version__
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values()), versions
