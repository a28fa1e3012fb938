"""What is done with a checkout, in environments of their own: `nox -l` lists it.

Without nox the same commands run in any environment with `pip install -e '.[test,lint]'`.
"""

import re
from pathlib import Path

import nox

_QUICK = "not slow and not full"
_OLDEST_PYTHON = "3.11"
_NEWEST_PYTHON = "3.13"
_WITH_OTHER_VERSIONS = (  # what depends most on what is installed beside: the quick ones of these
    "tests/files", "tests/onnx_model", "tests/graph", "tests/rules", "tests/reports",
    "tests/test_package.py",
)  # fmt: skip
_SLOW_WITH_OTHER_VERSIONS = ("tests/test_api.py", "tests/command_line/test_main.py")

nox.options.sessions = ["fast", "lint"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def fast(session: nox.Session) -> None:
    """Run what answers within half a minute, while you work; name tests that are slow for that."""
    session.install("-e", ".[test]")
    slow = ("--durations=10", "--durations-min=0.5")
    session.run("pytest", "-q", "-n", "2", "-m", _QUICK, *slow, *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Run all tests, those too that the usual run leaves out."""
    session.install("-e", ".[test]")
    session.run("pytest", "-q", "-n", "2", "-m", "full or not full", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types and who imports whom."""
    session.install("-e", ".[lint,test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo")


@nox.session
def docs(session: nox.Session) -> None:
    """Check what documents repeat of the code, and build the site into build/site."""
    session.install("-e", ".[test,docs]")
    session.run(
        "pytest", "-q", "tests/test_documents.py", "tests/test_remedies.py", "tests/test_site.py",
        "tests/test_maths.py", "tests/rules/test_tables_text.py", "tests/reports/test_report.py",
        "tests/models/test_models.py", "tests/deployment", *session.posargs,
    )  # fmt: skip
    session.run("mkdocs", "build", "--strict", "-q", "-f", "website/mkdocs.yml")


@nox.session(python=_OLDEST_PYTHON)
def oldest(session: nox.Session) -> None:
    """Test with the oldest Python, and the oldest versions that pyproject.toml lets in."""
    constraints = Path(session.create_tmp()) / "oldest.txt"
    constraints.write_text("\n".join(_lower_bounds()), encoding="utf-8")
    session.install("-c", str(constraints), ".[test]")
    _test_with_other_versions(session)


@nox.session(python=_NEWEST_PYTHON)
def newest(session: nox.Session) -> None:
    """Test with the newest Python, and the newest versions that the package index has."""
    session.install("--upgrade", "--upgrade-strategy", "eager", ".[test]")
    _test_with_other_versions(session)


def _lower_bounds() -> list[str]:
    """Return each dependency of users with its lower bound as its version."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["html"]]
    return [re.sub(r">=([\w.]+).*", r"==\1", requirement) for requirement in wanted]


def _test_with_other_versions(session: nox.Session) -> None:
    session.run("python", "--version")
    session.run("pip", "list", "--format=freeze", silent=False)
    if session.posargs:
        session.run("pytest", "-q", "-n", "2", *session.posargs)
        return
    session.run("pytest", "-q", "-n", "2", "-m", _QUICK, *_WITH_OTHER_VERSIONS)
    session.run("pytest", "-q", "-n", "2", *_SLOW_WITH_OTHER_VERSIONS)


@nox.session
def bench(session: nox.Session) -> None:
    """Time bnfold beside other tools, on 45 MB unless told otherwise; see benchmarks/README.md."""
    session.install("-e", ".[html]", "-r", "benchmarks/requirements.txt")
    session.run("python", "benchmarks/files.py", *(session.posargs or ("--sizes", "45")))
