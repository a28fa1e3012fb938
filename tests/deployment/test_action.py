"""The GitHub Action: what its script runs and says, as a process; its inputs; its schema."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, ROOT, model_in

_ACTION = ROOT / "action.yml"


def _run(folder: Path, **variables: str) -> tuple[int, list[str], Path]:
    reports = folder / "reports"
    environment = {
        **ENVIRONMENT,
        "BNFOLD_REPORTS": str(reports),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output.txt"),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "action" / "run.py")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert not done.stderr.startswith("Traceback"), done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("::")]
    return done.returncode, lines, reports


@pytest.mark.slow
def test_what_could_be_folded_is_a_warning_and_what_stays_a_notice(tmp_path: Path) -> None:
    model_in(tmp_path, "kept", as_name="kept, 100%.onnx")
    code, lines, reports = _run(tmp_path, BNFOLD_MODELS="'kept, 100%.onnx'")
    assert code == 1
    assert lines[0].startswith("::warning file=kept%2C 100%25.onnx,title=bnfold::1 folds would")
    assert [line.split(" ", 1)[0] for line in lines[1:]] == ["::notice"] * 4
    assert "stays%0ABatchNormalization" in lines[2]
    assert "digits" not in (reports / "report.html").read_text(encoding="utf-8")
    assert "kept, 100%.onnx" in (reports / "report.html").read_text(encoding="utf-8")
    assert "| kept, 100%.onnx | 5 → 4 | 13 → 12 | |" in (
        (tmp_path / "summary.md").read_text(encoding="utf-8").replace("|  |", "| |")
    )
    assert "exit-code=1\n" in (tmp_path / "output.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_models_are_folded_into_a_folder_that_is_made(tmp_path: Path) -> None:
    model_in(tmp_path)
    code, lines, reports = _run(
        tmp_path, BNFOLD_MODELS="digits.onnx", BNFOLD_MODE="fold", BNFOLD_OUTPUT="out/folded",
        BNFOLD_MAX_KEPT="0", BNFOLD_ARGUMENTS="--time 0",
    )  # fmt: skip
    assert (code, lines) == (0, [])
    assert (tmp_path / "out" / "folded" / "digits.onnx").is_file()
    report = json.loads((reports / "report.json").read_text(encoding="utf-8"))
    assert (report[0] if isinstance(report, list) else report)["verification"] is not None


@pytest.mark.slow
def test_what_is_refused_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "not.onnx").write_text("no model")
    code, lines, _ = _run(tmp_path, BNFOLD_MODELS="not.onnx")
    assert code == 2
    assert [line.split(",")[0] for line in lines] == ["::error file=not.onnx"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BNFOLD_MODELS": " "}, "no model is named"),
        ({"BNFOLD_MODELS": "a.onnx", "BNFOLD_MODE": "chek"}, "mode is 'check' or 'fold'"),
    ],
)
def test_a_bad_request_says_what_is_wrong(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    code, lines, _ = _run(tmp_path, **variables)
    assert code == 2
    assert said in lines[0]


def test_every_input_reaches_the_script_and_is_documented() -> None:
    text = _ACTION.read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    declared = set(re.findall(r"^  ([\w-]+):$", text.split("outputs:")[0], re.MULTILINE))
    assert used == declared
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    assert not [name for name in declared if f"| `{name}` |" not in page]
    variables = set(re.findall(r"BNFOLD_\w+", (ROOT / "action" / "run.py").read_text("utf-8")))
    assert variables == set(re.findall(r"^        (BNFOLD_\w+):", text, re.MULTILINE))


def test_no_shell_reads_what_an_input_holds() -> None:
    commands = re.findall(r"^ +run: (.*)$", _ACTION.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert not [command for command in commands if "${{" in command]


def test_it_fits_the_schema_of_actions() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is in the extra 'docs'")
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", str(_ACTION)]
    subprocess.run([sys.executable, *words], check=True, timeout=60)
