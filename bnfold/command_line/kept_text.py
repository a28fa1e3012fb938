"""What was kept and why, as text: one of each kind of reason, or all."""

from collections.abc import Iterator, Sequence

from bnfold.command_line.words import INDENT, coded, indented, named
from bnfold.reports.records import KeptRecord
from bnfold.units import counted

_SHORT = 6
"""So many kinds of kept nodes are listed unless all are asked for."""


def kept_lines(kept: Sequence[KeptRecord], *, verbose: bool) -> Iterator[str]:
    """Tell what was kept and why: one of each kind, or all."""
    normalizations = [record for record in kept if record.is_normalization]
    if normalizations:
        yield f"{counted(len(normalizations), 'batch normalization')} kept:"
        yield from indented(_reasons(normalizations, verbose=verbose))
    apart = [record for record in kept if record.beside is not None]
    if apart:
        they = "it is" if len(apart) == 1 else "they are"
        branches = counted(len(apart), "branch", "branches")
        yield f"{branches} kept apart from what {they} added to:"
        yield from indented(_apart_texts(apart, verbose=verbose))
    others = [record for record in kept if not record.is_normalization and record.beside is None]
    if others and verbose:
        arithmetic = ("run of other per-channel arithmetic", "runs of other per-channel arithmetic")
        yield f"{counted(len(others), *arithmetic)} kept:"
        yield from indented(_reasons(others, verbose=True))
    if normalizations or apart:
        yield "bnfold explain CODE says what a code in brackets means, and what to do"


def _apart_texts(kept: Sequence[KeptRecord], *, verbose: bool) -> Iterator[str]:
    shown = kept if verbose else kept[:_SHORT]
    for record in shown:
        yield named(record.nodes, " + ")
        if record.beside is not None:
            yield f"{INDENT}{coded(record.beside)}"
    if len(kept) > len(shown):
        yield f"and {len(kept) - len(shown)} more (-v shows all)"


def _reasons(kept: Sequence[KeptRecord], *, verbose: bool) -> Iterator[str]:
    alike: dict[object, list[KeptRecord]] = {}
    for number, record in enumerate(kept):
        alike.setdefault(number if verbose else _reason_codes(record), []).append(record)
    groups = list(alike.values())
    shown = groups if verbose else groups[:_SHORT]
    for group in shown:
        yield from _kept_text(group[0])
        if len(group) > 1:
            yield f"{INDENT}and {len(group) - 1} more for the same reasons"
    hidden = sum(map(len, groups[len(shown) :]))
    if hidden:
        yield f"and {hidden} more for other reasons"
    if len(kept) > len(shown):
        yield "(-v shows all)"


def _reason_codes(record: KeptRecord) -> tuple[str, str]:
    return record.above.reason, record.below.reason if record.below else ""


def _kept_text(record: KeptRecord) -> Iterator[str]:
    yield named(record.nodes, " + ")
    if record.below is None:
        yield f"{INDENT}{coded(record.above)}"
        return
    yield f"{INDENT}before: {coded(record.above)}"
    yield f"{INDENT}behind: {coded(record.below)}"
