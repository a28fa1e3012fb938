"""The package as it is built and installed, outside the checkout; a hook; the container's steps."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from commandline import MODELS, ROOT, model_in

pytestmark = [pytest.mark.full, pytest.mark.network]
_LEFT_OUT = shutil.ignore_patterns(".git", ".*cache*", ".venv*", ".nox", "build", "dist", "__pyc*")
_OUTSIDE = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def _done(*words: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=_OUTSIDE, timeout=600, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout, committed to a repository of its own."""
    copy = tmp_path_factory.mktemp("copy") / "bnfold"
    shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "all")):
        _done("git", *words, cwd=copy)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the sdist, and a wheel that was made of it."""
    folder = tmp_path_factory.mktemp("dist")
    venv.create(folder / "tools", with_pip=True)
    python = folder / "tools" / "bin" / "python"
    _done(python, "-m", "pip", "install", "-q", "build>=1.2", cwd=folder)
    _done(python, "-m", "build", "-o", folder, checkout, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(built[1]).namelist()
    (metadata,) = (name.split("/")[0] for name in names if name.endswith("/METADATA"))
    elsewhere = [name for name in names if name.split("/")[0] not in ("bnfold", metadata)]
    assert [name.split("/", 1)[1] for name in elsewhere] == ["data/share/man/man1/bnfold.1"]
    assert "bnfold/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_its_documents_name(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "models/digits.onnx"}
    assert wanted | {"docs/verification.md", "tests/test_api.py", "website/mkdocs.yml"} <= names


def test_the_wheel_runs_outside_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", with_pip=True)
    binaries = tmp_path / "environment" / "bin"
    _done(binaries / "pip", "install", "-q", f"{built[1]}[html]", cwd=tmp_path)
    model_in(tmp_path)
    said = _done(binaries / "bnfold", "digits.onnx", "--report", "digits.html", cwd=tmp_path)
    assert "verification passed" in said
    assert (tmp_path / "digits.folded.onnx").is_file()
    assert (tmp_path / "digits.html").is_file()
    where = _done(binaries / "python", "-c", "import bnfold; print(bnfold.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))


def test_the_hook_fails_on_a_model_that_is_not_folded(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("pre_commit", reason="pre-commit is in the extra 'dev'")
    user = tmp_path / "user"
    user.mkdir()
    _done("git", "init", "-q", cwd=user)
    model_in(user)
    (user / "readme.txt").write_text("no model")
    _done("git", "add", ".", cwd=user)
    words = (sys.executable, "-m", "pre_commit", "try-repo", checkout, "bnfold", "--all-files")
    assert "8 of 8 batch normalizations would be folded" in _done(*words, cwd=user, code=1)
    _done(
        sys.executable,
        "-m",
        "bnfold",
        "digits.onnx",
        "--in-place",
        "--time",
        "0",
        cwd=checkout / "models",
    )
    shutil.copy(checkout / "models" / "digits.onnx", user)
    shutil.copy(MODELS / "digits.onnx", checkout / "models")
    _done("git", "add", ".", cwd=user)
    assert "Passed" in _done(*words, cwd=user)


def test_the_steps_of_the_container_work(tmp_path: Path) -> None:
    """No image is built here: what its `pip` lines do is done in an environment."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    source = tmp_path / "source"
    source.mkdir()
    for name in let_in:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=_LEFT_OUT)
        else:
            (source / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    venv.create(tmp_path / "image", with_pip=True)
    python = tmp_path / "image" / "bin" / "python"
    steps = re.findall(r"python -m pip [^\\\n&]+", text)
    assert len(steps) == 2
    for step in steps:
        words = step.replace("python ", f"{python} ", 1).replace("/wheels", f"{tmp_path}/wheels")
        _done("sh", "-ec", words.replace(" /source", f" {source}"), cwd=tmp_path)
    model_in(tmp_path)
    assert "verification passed" in _done(python.with_name("bnfold"), "digits.onnx", cwd=tmp_path)


def test_the_steps_of_the_action_work(checkout: Path, tmp_path: Path) -> None:
    """The steps that a shell runs, as GitHub would: in the user's folder, with their variables."""
    venv.create(tmp_path / "python", with_pip=True)
    told = {
        "github.action_path": str(checkout),
        "runner.temp": str(tmp_path / "temp"),
        "inputs.models": "models/",
        "inputs.mode": "fold",
        "inputs.output": "folded",
        "inputs.arguments": "--time 0",
    }
    user = tmp_path / "user"
    (user / "models").mkdir(parents=True)
    model_in(user / "models")
    environment = {
        **_OUTSIDE,
        "PATH": f"{tmp_path / 'python' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    steps = (ROOT / "action.yml").read_text(encoding="utf-8").split("\n    - ")[1:]
    run = 0
    for step in steps:
        for command in re.findall(r"^      run: (.*)$", step, re.MULTILINE):
            given = {
                name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: told.get(found[1], ""), value)
                for name, value in re.findall(r"^        (\w+): (.*)$", step, re.MULTILINE)
            }
            words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
            subprocess.run(words, cwd=user, env=environment | given, check=True, timeout=600)
            run += 1
    assert run == 2
    assert (user / "folded" / "digits.onnx").is_file()
    assert (tmp_path / "temp" / "bnfold" / "report.html").is_file()
    assert "exit-code=0\n" in (tmp_path / "output").read_text(encoding="utf-8")
