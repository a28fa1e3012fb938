"""`bnfold verify`: comparing any two models."""

import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from bnfold.command_line.collecting import resume_collecting
from bnfold.command_line.failing import one_line_errors
from bnfold.command_line.options import (
    COLOR,
    REPORT,
    Command,
    PathType,
    check_report,
    check_together,
    verify_options,
    with_verify_options,
)
from bnfold.errors import one_line
from bnfold.processes.signals import interrupts_held_back

if TYPE_CHECKING:
    from bnfold.reports.report import Comparison


@click.command(
    name="bnfold verify", cls=Command, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("original", type=PathType(or_pipe=True))
@click.argument("candidate", type=PathType(or_pipe=True))
@with_verify_options
@click.option(
    "--allow-narrowed",
    is_flag=True,
    help="Accept a candidate that is right for fewer shapes than the original takes.",
)
@click.option(
    "--match-outputs-by-name",
    is_flag=True,
    help="Accept inputs and outputs in another order.",
)
@REPORT
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every output and every region.")
@COLOR
def verify(original: Path, candidate: Path, **options: Any) -> None:  # noqa: ANN401
    """Verify that CANDIDATE computes what ORIGINAL computes, whoever made it.

    One of the two may be -, which is standard input.

    Exit codes: 0 it does, 2 bad request or file, 3 it does not or nothing shows that it does,
    4 a provider that was asked for cannot run.
    """
    with one_line_errors(verbose=options["verbose"]):
        check_together(options)
        with interrupts_held_back():
            if original.is_file() and candidate.is_file():
                from bnfold.verification.runs.ahead import start_child_ahead

                start_child_ahead()
            from bnfold.command_line.pipes import spoken
        from bnfold.command_line.telling import width
        from bnfold.command_line.text import report_line, verification_text
        from bnfold.reports.report_file import write_reports

        resume_collecting()
        if options["report"] is not None:
            check_report(options, [original, candidate])
        comparison = _comparison(original, candidate, options)
        found = comparison.verification
        if options["report"] is not None:
            write_reports(options["report"], [comparison])
        if not options["quiet"]:
            failed = bool(comparison.error)
            text = verification_text(found, verbose=options["verbose"], width=width(err=failed))
            click.echo(text, err=failed)
            if options["report"] is not None:
                click.echo(report_line(options["report"]), err=failed)
        if comparison.error and (options["quiet"] or found.verdict.ok):
            click.echo(f"bnfold: {one_line(f'{spoken(candidate)}: {comparison.error}')}", err=True)
        sys.exit(comparison.exit_code)


def _comparison(original: Path, candidate: Path, options: dict[str, Any]) -> "Comparison":
    """Verify; one of the models may come through a pipe, and either from a store."""
    from dataclasses import replace

    from bnfold.api import verify as verify_models
    from bnfold.command_line.pipes import as_files
    from bnfold.command_line.progress import progress
    from bnfold.files.remote import called
    from bnfold.reports.file_record import FileRecord
    from bnfold.reports.report import Comparison, Seconds

    how, began = verify_options(options), monotonic()
    named = (original, candidate)
    with as_files(named) as files:
        with progress(quiet=options["quiet"]) as shown:
            shown.show("verifying")
            found = verify_models(*files, step=shown.show, options=how)
        seconds = Seconds(verify=monotonic() - began)
        first, second = (
            replace(FileRecord.of(file, digest=True), path=called(name))
            for file, name in zip(files, named, strict=True)
        )
        return Comparison(first, second, found, seconds, how.to_dict())
