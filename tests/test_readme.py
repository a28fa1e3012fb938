"""What README shows of the terminal is what the terminal shows."""

import re
import shutil
from pathlib import Path

import pytest
from commandline import MODELS, ROOT, run_here

_BLOCK = re.compile(r"^```text\n(models/.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = (
    (r" in [\d.]+ → [\d.]+ [mµ]s \(± \d+%: [^)]*\)", ""),  # how long runs take
    (r"[\d.]+ s to (fold|verify)", r"… s to \1"),
    (r"differs by [\d.e+-]+ of its magnitude, [\d.]+ ×", "differs by … ×"),
    (r"not in this build of ONNX Runtime: [\w, ]+?(?= before)", ""),
)
"""What another machine, or another build of ONNX Runtime, tells otherwise."""


def _steady(text: str) -> str:
    """Return text in one line, without what varies."""
    text = " ".join(text.split())
    for pattern, instead in _VARIES:
        text = re.sub(pattern, instead, text)
    return " ".join(text.split())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name in ("digits", "kept"):
        shutil.copy(MODELS / f"{name}.onnx", tmp_path / "models")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("models/digits.onnx", "-o", "digits.folded.onnx"), ("models/kept.onnx", "--check")]
)
def test_a_shown_output_is_true(checkout: Path, words: tuple[str, ...]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = next(b for b in _BLOCK.findall(readme) if b.startswith(words[0]))
    printed = _steady(run_here(*words, cwd=checkout).text)
    parts = [_steady(part) for part in re.split(r"^ *…$", shown, flags=re.MULTILINE)]
    pattern = ".*".join(map(re.escape, parts))
    assert re.match(pattern, printed), printed
    assert " ".join(words) in readme
