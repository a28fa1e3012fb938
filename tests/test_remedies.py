"""Every reason is explained, in the same words everywhere."""

from pathlib import Path

import pytest
from commandline import ROOT, run

from bnfold.reasons import Reason
from bnfold.remedies import EXPLANATIONS, as_markdown


def test_every_reason_is_explained() -> None:
    assert list(EXPLANATIONS) == list(Reason)


def test_the_document_is_what_explain_prints() -> None:
    """`bnfold explain --markdown > docs/reasons.md` makes it."""
    assert (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8") == as_markdown()


@pytest.mark.parametrize("word", ["zero-padding", "ZERO_PADDING"])
def test_one_is_explained(word: str, tmp_path: Path) -> None:
    done = run("explain", word, cwd=tmp_path)
    assert done.code == 0
    assert done.text.startswith("zero-padding: zero padding would no longer be")
    assert "No exact fold exists" in " ".join(done.text.split())


def test_all_are_listed_and_a_slip_is_helped(tmp_path: Path) -> None:
    done = run("explain", cwd=tmp_path)
    assert [line.split()[0] for line in done.text.splitlines()] == [r.value for r in Reason]
    done = run("explain", "zero-pading", cwd=tmp_path)
    assert done.code == 2
    assert "is 'zero-padding' meant?" in done.err
