"""Real shells complete commands, options and values."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnfold.command_line.completion import VARIABLE
from bnfold.version import __version__

TREE = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a program called bnfold and some files to complete."""
    program = tmp_path / "bin" / "bnfold"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m bnfold "$@"\n')
    program.chmod(0o755)
    for name in ("models/net.onnx", "verse.onnx", "other.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def _run(place: Path, *words: str, **variables: str) -> str:
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    paths = os.pathsep.join(filter(None, [str(TREE), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        words,
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PATH": path, "PYTHONPATH": paths} | variables,
    ).stdout


def _offered(place: Path, line: str) -> list[str]:
    """What bash gets for the last word of a line."""
    last = str(len(line.split(" ")) - 1)
    asked = {VARIABLE: "bash_complete", "COMP_WORDS": line, "COMP_CWORD": last}
    return _run(place, "bnfold", **asked).split()


def test_the_first_word_is_a_command_or_a_model(place: Path) -> None:
    assert _offered(place, "bnfold ve") == ["plain,verse.onnx", "plain,verify"]
    assert _offered(place, "bnfold comp") == ["plain,completion"]
    assert _offered(place, "bnfold mod") == ["file,mod"]
    names = ["bin/", "models/", "other.onnx", "verse.onnx", "verify", "ops", "explain"]
    assert _offered(place, "bnfold ") == [f"plain,{n}" for n in (*names, "completion")]


def test_each_command_offers_its_own_options(place: Path) -> None:
    assert _offered(place, "bnfold --in-p") == ["plain,--in-place"]
    assert _offered(place, "bnfold verify --in") == ["plain,--inputs"]
    assert _offered(place, "bnfold verify --allow-n") == ["plain,--allow-narrowed"]
    assert _offered(place, "bnfold verify other") == ["file,other"]
    assert _offered(place, "bnfold net.onnx --color a") == ["plain,auto", "plain,always"]
    assert _offered(place, "bnfold explain zero-p") == ["plain,zero-padding"]
    assert _offered(place, "bnfold completion z") == ["plain,zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(place: Path, shell: str) -> None:
    script = _run(place, "bnfold", "completion", shell)
    assert VARIABLE in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (place / "script").write_text(script)
    _run(place, shell, "-n", "script")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(place: Path) -> None:
    script = """
        eval "$(bnfold completion bash)"
        COMP_WORDS=(bnfold verify --thor) COMP_CWORD=2
        _bnfold_completion bnfold --thor verify
        echo "${COMPREPLY[@]}"
    """
    assert _run(place, "bash", "-c", script) == "--thorough\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(place: Path) -> None:
    script = "bnfold completion fish | source; complete -C 'bnfold verify --thor'"
    home = {"HOME": str(place), "XDG_CONFIG_HOME": str(place)}
    assert _run(place, "fish", "-c", script, **home).startswith("--thorough\t")


def test_the_manual_is_that_of_the_commands(place: Path) -> None:
    """`python -m bnfold.command_line.manual > docs/bnfold.1` makes it."""
    made = _run(place, sys.executable, "-P", "-m", "bnfold.command_line.manual")
    assert (TREE / "docs" / "bnfold.1").read_text(encoding="utf-8") == made
    assert f"bnfold {__version__}" in made
    for word in ("verify", "\\-\\-max\\-kept", "EXIT STATUS", "NO_COLOR"):
        assert word in made


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_has_nothing_to_complain_about() -> None:
    page = TREE / "docs" / "bnfold.1"
    asked = ["man", "--warnings", "-l", "-Tutf8", "-Z", str(page)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stderr == ""
