"""What `bnfold MODEL...` does, once its words are understood."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfold.command_line.batch import run_all
from bnfold.command_line.failing import INTERRUPTED, fail, saying_what_was_written
from bnfold.command_line.hands import hired
from bnfold.command_line.options import check_report, statistics_options, verify_options
from bnfold.command_line.progress import Progress, progress
from bnfold.command_line.sources import (
    Request,
    Sources,
    files_of,
    find_sources,
    make_folder_of,
    require_explainable,
)
from bnfold.command_line.telling import Accounts, Telling, column_of
from bnfold.options import FileKeywords, FileOptions, file_options
from bnfold.reports.report_file import ReportFile, is_page


def run(models: Sequence[Path], options: dict[str, Any]) -> int:
    """Fold the models, print and report what becomes of each, and return the exit code."""
    request = Request(options["output"], options["directory"], _how(options))
    sources = find_sources(models, request.directory, in_place=request.how.in_place)
    require_explainable(sources, request)
    if options["report"] is not None:
        files = files_of(sources, request)
        make_folder_of(options["report"], request)
        check_report(options, files)
    telling = Telling(
        len(sources.models) == 1,
        column_of(sources.paths),
        options["quiet"],
        options["verbose"],
        options["check"],
        request.writes_to_stdout(sources.paths),
    )
    with progress(quiet=options["quiet"]) as shown:
        report = None
        if options["report"] is not None:
            report = ReportFile(options["report"], several=len(sources.models) > 1)
        accounts = Accounts(telling, report, shown)
        _fold_all(sources, request, options, accounts, shown)
    with saying_what_was_written(accounts.outcomes):
        accounts.close(sources.passed_over)
    return max(outcome.exit_code for outcome in accounts.outcomes)


def _how(options: dict[str, Any]) -> FileOptions:
    """Return how to fold each model; most options are called as `fold_file` calls them."""
    report = options["report"]
    named = {name: options[name] for name in options.keys() & FileKeywords.__annotations__}
    how = file_options(
        **named,
        verify=None if options["no_verify"] else verify_options(options),
        statistics=statistics_options(options),
        merge=not options["no_merge"],
        digest=report is not None,
        int8=True if report is not None else None,
    )
    return replace(how, picture=report is not None and is_page(report))


def _fold_all(
    sources: Sources,
    request: Request,
    options: dict[str, Any],
    accounts: Accounts,
    shown: Progress,
) -> None:
    """Fold the models, and take account of each as it is done; also if that is interrupted."""
    skip = options["skip_existing"]
    try:
        with hired(options) as hands:
            for outcome in run_all(
                sources, request, hands=hands, skip_existing=skip, step=shown.show
            ):
                accounts.take(outcome)
    except KeyboardInterrupt:
        if accounts.outcomes:
            accounts.close()
            done = f"{len(accounts.outcomes)} of {len(sources.models)} models were done"
            fail(f"interrupted; {done}", INTERRUPTED)
        raise
