"""Documents name only what there is: files, headings, options of the command line, sessions."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from commandline import ROOT

import bnfold
from bnfold.command_line import main

_DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")])
    if path.name != "CHANGELOG.md"
]
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_FILE = re.compile(r"`((?:bnfold|tests|docs|models|benchmarks|fuzz)/[\w./-]+\.\w+)`")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`|^(bnfold .*)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_SESSION = re.compile(r"\bnox -s (\w+)")

each_document = pytest.mark.parametrize("name", _DOCUMENTS)


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _anchors(path: Path) -> set[str]:
    """Return the names that a reader on the web gives to headings."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def _commands() -> Iterator[click.Command]:
    return (value for value in vars(main).values() if isinstance(value, click.Command))


@each_document
def test_a_document_links_and_names_files_that_are_there(name: str) -> None:
    folder, text = (ROOT / name).parent, _text(name)
    missing = [link for link, _ in _LINK.findall(text) if not (folder / link).exists()]
    missing += [file for file in _FILE.findall(text) if not (ROOT / file).exists()]
    assert not missing


@each_document
def test_a_document_links_to_headings_that_are_there(name: str) -> None:
    path = ROOT / name
    linked = [(link, heading) for link, heading in _LINK.findall(_text(name)) if heading]
    targets = [(path.parent / link if link else path, heading) for link, heading in linked]
    assert not [heading for target, heading in targets if heading not in _anchors(target)]


@each_document
def test_a_document_names_options_that_bnfold_has(name: str) -> None:
    known = {word for each in _commands() for param in each.params for word in param.opts} | {
        "--help"
    }
    assert len(known) > len(list(_commands()))
    codes = [inline or line for inline, line in _CODE.findall(_text(name))]
    ours = [code for code in codes if code.startswith(("-", "bnfold "))]
    assert not [word for code in ours for word in _OPTION.findall(code) if word not in known]


@each_document
def test_a_document_names_sessions_that_the_runner_has(name: str) -> None:
    sessions = re.findall(
        r"^@nox\.session(?:\(.*\))?\ndef (\w+)", _text("noxfile.py"), re.MULTILINE
    )
    assert sessions
    assert set(_SESSION.findall(_text(name))) <= set(sessions)


def test_the_page_on_python_has_every_public_name() -> None:
    told = re.findall(r"^::: bnfold\.(\w+)$", _text("docs/api.md"), re.MULTILINE)
    assert sorted([*told, "__version__"]) == sorted(bnfold.__all__)


def test_the_tour_of_the_house_names_every_module() -> None:
    tour = _text("docs/architecture.md").partition("## Module by module")[2]
    modules = {path.stem for path in (ROOT / "bnfold").rglob("*.py")} - {"__init__", "__main__"}
    assert modules <= set(re.findall(r"`(\w+)`", tour))
