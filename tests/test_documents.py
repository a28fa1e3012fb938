"""Documents name only what there is."""

import re

import pytest
from commandline import ROOT

_DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")] if path.name != "CHANGELOG.md"
)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_FILE = re.compile(r"`((?:bnfold|tests|docs|models|benchmarks|fuzz)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize("name", [path.relative_to(ROOT).as_posix() for path in _DOCUMENTS])
def test_a_document_links_and_names_files_that_are_there(name: str) -> None:
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    missing = [link for link in _LINK.findall(text) if not (path.parent / link).exists()]
    missing += [file for file in _FILE.findall(text) if not (ROOT / file).exists()]
    assert not missing
