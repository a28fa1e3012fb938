"""What changed, as a small table, then the files that were written and how long it took."""

import os
from collections.abc import Iterator

from bnfold.command_line.words import indented
from bnfold.errors import one_line
from bnfold.reports.file_record import FileRecord
from bnfold.reports.report import Report, Seconds
from bnfold.units import byte_size, counted

_SHORT = 6
"""So many operators are listed unless all are asked for: those that changed most."""

Row = tuple[str, str, str]
"""What it is, before and after."""


def change_lines(report: Report, *, verbose: bool) -> Iterator[str]:
    """Tell how many operators, nodes and bytes there are before and after.

    If `verbose`, tell it of every operator of which there are more or fewer.
    """
    if report.changes:
        yield "before → after"
        yield from indented(_table([*_operators(report, verbose=verbose), *_whole(report)]))
    if report.written and report.target is not None:
        yield f"written: {', '.join(_files(report, report.target))}"
    if report.seconds is not None and report.changes and not report.checked_only:
        yield " and ".join(_times(report.seconds))


def _operators(report: Report, *, verbose: bool) -> list[Row]:
    """Return the operators of which there are more or fewer."""
    before, after = report.before.operators, report.after.operators
    counted_both = ((op, before.get(op, 0), after.get(op, 0)) for op in {**before, **after})
    changed = [(op, was, now) for op, was, now in counted_both if was != now]
    changed.sort(key=lambda row: (-abs(row[2] - row[1]), row[0]))
    shown = changed if verbose or len(changed) == _SHORT + 1 else changed[:_SHORT]
    rows = [(one_line(op), str(was), str(now)) for op, was, now in shown]
    hidden = changed[len(shown) :]
    if hidden:
        was, now = sum(row[1] for row in hidden), sum(row[2] for row in hidden)
        rows.append((counted(len(hidden), "other operator"), str(was), str(now)))
    return rows


def _whole(report: Report) -> Iterator[Row]:
    yield "all nodes", str(report.before.nodes), str(report.after.nodes)
    sizes = [None if file is None else file.whole_size for file in (report.source, report.target)]
    if report.written and None not in sizes:
        yield "size", byte_size(sizes[0]), byte_size(sizes[1])


def _table(rows: list[Row]) -> Iterator[str]:
    """Yield rows with their arrows one below the other."""
    names, numbers = (max(len(row[place]) for row in rows) for place in (0, 1))
    return (f"{name:<{names}}  {before:>{numbers}} → {after}" for name, before, after in rows)


def _files(report: Report, target: FileRecord) -> Iterator[str]:
    """Yield the files that hold the folded model, and those of them that were there before."""
    path = "standard output" if target.path == "-" else target.path
    yield _sized(path, target.size)
    read = {_beside(report.source, f.location) for f in report.source.data_files}
    for file in target.data_files:
        path = _beside(target, file.location)
        there = ", as before" if path in read else ""
        yield _sized(path, file.size, there)


def _beside(file: FileRecord, location: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(file.path), location))  # noqa: PTH118, PTH120 - a path as the user wrote it


def _sized(path: str, count: int | None, added: str = "") -> str:
    size = byte_size(count) + added
    return f"{path} ({size})" if size else path


def _times(seconds: Seconds) -> Iterator[str]:
    for each, what in ((seconds.fold, "to fold"), (seconds.verify, "to verify")):
        if each is not None:
            yield f"{each:.1f} s {what}"
