"""What is done with a checkout, in environments of their own: `nox -l` lists it.

Without nox the same commands run in any environment with `pip install -e '.[test,lint]'`.
"""

import nox

nox.options.sessions = ["fast", "lint"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def fast(session: nox.Session) -> None:
    """Run what answers within half a minute, while you work."""
    session.install("-e", ".[test]")
    session.run("pytest", "-q", "-n", "2", "-m", "not slow and not full", *session.posargs)


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
    """Check what documents repeat of the code: links, options, tables, reasons, the schema."""
    session.install("-e", ".[test]")
    session.run(
        "pytest", "-q", "tests/test_documents.py", "tests/test_remedies.py",
        "tests/rules/test_tables_text.py", "tests/reports/test_report.py",
        "tests/models/test_models.py", *session.posargs,
    )  # fmt: skip


@nox.session
def bench(session: nox.Session) -> None:
    """Time bnfold beside other tools, on 45 MB unless told otherwise; see benchmarks/README.md."""
    session.install("-e", ".[html]", "-r", "benchmarks/requirements.txt")
    session.run("python", "benchmarks/files.py", *(session.posargs or ("--sizes", "45")))
