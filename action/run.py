"""Run bnfold as the GitHub Action does: from variables, with annotations from its report.

Reads BNFOLD_MODELS, BNFOLD_MODE, BNFOLD_OUTPUT, BNFOLD_MAX_KEPT, BNFOLD_ARGUMENTS and
BNFOLD_REPORTS, which `action.yml` sets from its inputs. Ends with bnfold's exit code.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_REFUSED: Final = 2
_ESCAPES: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_PROPERTIES: Final = _ESCAPES | {":": "%3A", ",": "%2C"}


def command(variables: Mapping[str, str]) -> list[str]:
    """Return bnfold's words, but for the report.

    Raises:
        ValueError: The mode is unknown, or no model is named.
    """
    models = shlex.split(variables["BNFOLD_MODELS"])
    if not models:
        raise ValueError("no model is named: 'models' is empty")
    words = [sys.executable, "-m", "bnfold", *shlex.split(variables.get("BNFOLD_ARGUMENTS", ""))]
    mode = variables.get("BNFOLD_MODE") or "check"
    if mode == "check":
        words.append("--check")
    elif mode == "fold":
        words += ["-d", variables.get("BNFOLD_OUTPUT") or "folded"]
    else:
        raise ValueError(f"mode is 'check' or 'fold', not '{mode}'")
    if variables.get("BNFOLD_MAX_KEPT"):
        words += ["--max-kept", variables["BNFOLD_MAX_KEPT"]]
    return [*words, "--", *models]


def annotation(level: str, path: str, text: str) -> str:
    """Return GitHub's command that shows a text beside a file."""
    file = "".join(_IN_PROPERTIES.get(letter, letter) for letter in path)
    said = "".join(_ESCAPES.get(letter, letter) for letter in text)
    return f"::{level} file={file},title=bnfold::{said}"


def annotations(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to show of one model."""
    path = entry["source"]["path"]
    if entry["error"] is not None:
        yield annotation("error", path, entry["error"])
    folds = entry.get("folds", [])
    if folds and entry["target"] is None:
        gone = f"{entry['before']['nodes']} → {entry['after']['nodes']} nodes"
        yield annotation("warning", path, f"{len(folds)} folds would be made, {gone}")
    for kept in entry.get("kept", []):
        node = kept["nodes"][0]
        tries = (kept["above"], kept["below"], kept.get("beside"))
        places = "\n".join(each["text"] for each in tries if each is not None)
        yield annotation("notice", path, f"{node['op_type']} '{node['name']}' stays\n{places}")


def summary(entries: list[dict[str, Any]]) -> str:
    """Return a table of all models, in Markdown."""
    lines = ["| model | batch normalizations | nodes | |", "|---|---|---|---|"]
    for entry in entries:
        path = entry["source"]["path"].replace("|", "\\|")
        counts = ("batch_normalizations", "nodes")
        cells = ["", ""]
        if "before" in entry:
            cells = [f"{entry['before'][each]} → {entry['after'][each]}" for each in counts]
        error = (entry["error"] or "").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {path} | {cells[0]} | {cells[1]} | {error} |")
    return "\n".join(lines) + "\n"


def _append(variable: str, text: str) -> None:
    """Append to the file that a variable of the runner names, where there is one."""
    if os.environ.get(variable):
        with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
            file.write(text)


def main() -> int:
    """Run bnfold, tell what it found, return its exit code."""
    try:
        words = command(os.environ)
    except ValueError as error:
        print(f"::error title=bnfold::{error}")
        return _REFUSED
    folder = Path(os.environ["BNFOLD_REPORTS"])
    folder.mkdir(parents=True, exist_ok=True)
    if "-d" in words:
        Path(words[words.index("-d") + 1]).mkdir(parents=True, exist_ok=True)
    report = folder / "report.json"
    code = subprocess.run([*words[:3], "--report", str(report), *words[3:]], check=False).returncode
    entries: list[dict[str, Any]] = []
    if report.exists():
        found = json.loads(report.read_text(encoding="utf-8"))
        entries = found if isinstance(found, list) else [found]
        from bnfold.reports.page import render  # installed beside, from the same checkout

        (folder / "report.html").write_text(render(entries), encoding="utf-8")
    for entry in entries:
        for line in annotations(entry):
            print(line)
    _append("GITHUB_STEP_SUMMARY", summary(entries))
    _append("GITHUB_OUTPUT", f"exit-code={code}\nreport={report}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
