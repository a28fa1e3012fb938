"""The package as its users meet it."""

import importlib.resources
import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
from commandline import ENVIRONMENT, ROOT

import bnfold

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_public_names_are_there() -> None:
    for name in bnfold.__all__:
        assert getattr(bnfold, name).__doc__ or name == "__version__"
    assert callable(bnfold.verify)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = bnfold.nothing_like_this


@pytest.mark.slow
def test_public_names_stay_when_modules_are_imported() -> None:
    script = (
        "import bnfold.api, bnfold.verification, bnfold.folding, bnfold.command_line.main, bnfold\n"
        "assert callable(bnfold.verify) and callable(bnfold.fold) and callable(bnfold.fold_file)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=ENVIRONMENT)


def test_importing_the_package_is_cheap() -> None:
    script = "import sys, bnfold; print({'onnx', 'numpy', 'onnxruntime', 'click'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"


def test_the_version_is_said_once_and_the_same() -> None:
    assert PROJECT["project"]["version"] == bnfold.__version__


def test_the_package_carries_its_data() -> None:
    files = importlib.resources.files("bnfold")
    for name in (
        "py.typed",
        *(f"reports/page/templates/page.{kind}" for kind in ("html", "css", "js")),
    ):
        assert files.joinpath(name).is_file()


def test_every_module_says_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(bnfold.__path__, "bnfold."):
        if not module.name.endswith("__main__"):
            assert import_module(module.name).__doc__, module.name
