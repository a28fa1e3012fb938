"""Reports and verifications as text for a terminal: short, unless all is asked for.

Colours are written with `click.style`; `click.echo` takes them out again where no terminal reads.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnfold.command_line.brief import Brief
from bnfold.command_line.change_text import change_lines
from bnfold.command_line.difference_text import difference_lines
from bnfold.command_line.foreign import made_printable
from bnfold.command_line.gain_text import gain_lines
from bnfold.command_line.kept_text import kept_lines
from bnfold.command_line.words import INDENT, indented, named, wrapped
from bnfold.errors import one_line
from bnfold.reports.cost import Cost
from bnfold.reports.records import CompositeRecord, FoldRecord
from bnfold.reports.report import Exit, Report
from bnfold.rules.affine_nodes import NORMALIZATION
from bnfold.units import byte_size, counted

if TYPE_CHECKING:
    from bnfold.verification import Probe, ProviderReport, Verification
    from bnfold.verification.comparison import OutputComparison


_WAYS = {
    "output": "folded into the operator before",
    "input": "folded into the operator behind",
    "merged": "merged with other per-channel arithmetic",
    "sum": "folded into one operator with the branches beside",
    "computed": "computed, and stored as the constants that they make",
    "nothing": "dropped, for nothing changes by it",
}
_ARROWS = {
    "output": "↑",
    "input": "↓",
    "merged": "=",
    "sum": "+",
    "computed": "→",
    "nothing": "dropped",
}


def report_text(report: Report, *, verbose: bool = False, width: int | None = None) -> str:
    """Return what a report says, in lines; `report.error` itself is left to the caller.

    Args:
        report: What was done to one model.
        verbose: Tell every fold, every node kept and every output.
        width: Where to wrap lines; None not to.
    """
    return wrapped(_report_lines(made_printable(report), verbose=verbose), width)


def verification_text(
    found: "Verification", *, verbose: bool = False, width: int | None = None
) -> str:
    """Return what a verification found, in lines."""
    found = made_printable(found)
    return wrapped(_verification_lines(found, found.reason, verbose=verbose), width)


def _report_lines(report: Report, *, verbose: bool) -> Iterator[str]:
    yield click.style(_headline(report), bold=True)
    if report.statistics is not None:
        from bnfold.command_line.statistics_text import statistics_lines

        yield from indented(statistics_lines(report.statistics, verbose=verbose))
    yield from indented(_done_lines(report, verbose=verbose))
    yield from indented(kept_lines(report.kept, verbose=verbose))
    if verbose:
        yield from indented(_composite_lines(report.composites))
    yield from indented(_side_effects(report))
    if report.weights:
        from bnfold.command_line.int8_text import int8_lines

        yield from indented(int8_lines(report))
    if report.explained:
        from bnfold.command_line.explanation_text import explanation_lines

        yield from indented(explanation_lines(report.explained, verbose=verbose))
    if report.verification is not None:
        found = report.verification
        reason = "" if report.error else found.reason
        yield from indented(_verification_lines(found, reason, verbose=verbose))
    elif report.written and report.changes:
        yield f"{INDENT}not verified"
    if not report.explained:
        yield from indented(change_lines(report, verbose=verbose))


def report_line(path: Path) -> str:
    """Return the line that says where a report was written."""
    return f"report written: {one_line(str(path))} ({byte_size(path.stat().st_size)})"


def summary(outcomes: Sequence[Brief]) -> str:
    """Return what became of several models, in one line."""
    counts = {
        "can be folded": sum(each.exit_code is Exit.FOLDABLE for each in outcomes),
        "written": sum(each.written for each in outcomes),
        "there already": sum(each.existing and not each.written for each in outcomes),
        "with nothing to fold": sum(
            each.exit_code is Exit.DONE and not each.written and not each.existing
            for each in outcomes
        ),
        "failed": sum(each.exit_code not in (Exit.DONE, Exit.FOLDABLE) for each in outcomes),
    }
    sums = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{counted(len(outcomes), 'model')}: {sums}"


def _headline(report: Report) -> str:
    source = "standard input" if report.source.path == "-" else report.source.path
    if report.target is None:
        return source
    if report.target.path == report.source.path != "-":
        unchanged = "" if report.written or report.changes else ", unchanged"
        place = f"{source} (in place{unchanged})"
    else:
        target = "standard output" if report.target.path == "-" else report.target.path
        place = f"{source} → {target}"
    return place if report.written or not report.changes else f"{place} (not written)"


def _done_lines(report: Report, *, verbose: bool) -> Iterator[str]:
    """Tell what was folded, but first what was exported by mistake."""
    training = sum(record.in_training for record in report.kept)
    if training:
        verb = "is" if training == 1 else "are"
        warning = (
            f"warning: {counted(training, 'node')} {verb} in training mode, most often because the "
            "export was; bnfold explain training-mode says what to do"
        )
        yield click.style(warning, fg="yellow")
    if training and not report.folds:
        return
    if not report.folds:
        nothing = "nothing" if report.before.batch_normalizations else "no batch normalization"
        copied = report.written and not report.changes
        yield f"{nothing} to fold" + ("; the model was copied as it is" if copied else "")
        return
    ways = Counter(fold.how for fold in report.folds)
    done = _WAYS[next(iter(ways))] if len(ways) == 1 else "folded"
    line = f"{what_went(report)} {'would be ' if report.checked_only else ''}{done}"
    if report.adds:
        line += f", of which {report.adds} {'is an Add' if report.adds == 1 else 'are Adds'} now"
    yield f"{line}, {report.before.nodes} → {report.after.nodes} nodes"
    if len(ways) > 1:
        yield ", ".join(f"{n} {_WAYS[way].removeprefix('folded ')}" for way, n in ways.items())
    if "sum" in ways and report.cost_before and report.cost_after:
        yield from _cost_text(report.cost_before, report.cost_after)
    if verbose:
        yield from indented(_fold_text(fold) for fold in report.folds)


def _cost_text(before: Cost, after: Cost) -> Iterator[str]:
    """Tell what merging branches saves: operators, multiplications and bytes."""
    if not before.linear_operators:
        return
    costs = [f"{before.linear_operators} → {after.linear_operators} convolutions and products"]
    if before.multiply_accumulates is not None and after.multiply_accumulates is not None:
        numbers = (before.multiply_accumulates / 1e6, after.multiply_accumulates / 1e6)
        costs.append("{:.4g} → {:.4g} million multiply-accumulates".format(*numbers))
    costs.append(f"{byte_size(before.weight_bytes)} → {byte_size(after.weight_bytes)} of weights")
    yield ", ".join(costs)


def what_went(report: Report) -> str:
    """Count what went: batch normalizations, and what else."""
    total = report.before.batch_normalizations
    gone = total - report.after.batch_normalizations
    others = Counter(
        node.op_type
        for fold in report.folds
        for node in fold.taken
        if node.op_type != NORMALIZATION
    )
    named = ", ".join(f"{number} {op_type}" for op_type, number in others.items())
    if not gone and named:
        return named
    return f"{gone} of {counted(total, 'batch normalization')}" + (f" and {named}" if named else "")


def lifted(report: Report) -> str:
    """Tell how many constants are, or would be, initializers."""
    verb = "would be" if report.checked_only else "is" if report.lifted == 1 else "are"
    became = "an initializer" if report.lifted == 1 else "initializers"
    now = "" if report.checked_only else " now"
    return f"{counted(report.lifted, 'constant')} {verb} {became}{now}"


def _fold_text(fold: FoldRecord) -> str:
    through = f" through {named(fold.through)}" if fold.through else ""
    into = f" {named(fold.into)}" if fold.into else ""
    return f"{named(fold.taken, ' + ')} {_ARROWS[fold.how]}{into}{through}"


def _composite_lines(composites: Sequence[CompositeRecord]) -> Iterator[str]:
    """Tell what was left whole."""
    if not composites:
        return
    yield f"{counted(len(composites), 'composite')} left whole, known to runtimes as one operator:"
    for composite in composites:
        yield f"{INDENT}{composite.name}: {named(composite.nodes, ' + ')}"


def _side_effects(report: Report) -> Iterator[str]:
    if report.inlined:
        names = ", ".join(report.inlined)
        line = f"{counted(len(report.inlined), 'local function')} inlined: {names}"
        yield f"{line} (names in them end in __1, __2, … now, another number for each call)"
    if report.left_files:
        names = ", ".join(report.left_files)
        yield f"no longer read by the model, and as before: {names}"
    if report.lifted:
        yield lifted(report)
    yield from report.notes
    if report.unlisted:
        yield (
            f"{counted(len(report.unlisted), 'initializer')} no longer listed as graph inputs"
            " (folded; --keep-overridable leaves such alone)"
        )


def _verification_lines(found: "Verification", reason: str, *, verbose: bool) -> Iterator[str]:
    """Tell the verdict, then the evidence; the reason only where the evidence does not say it."""
    colour = "green" if found.verdict.ok else "yellow" if found.verdict == "inconclusive" else "red"
    verdict = click.style(f"verification {found.verdict}", fg=colour, bold=True)
    if found.shown_for:
        verdict += f" for {' and '.join(found.shown_for)}"
    why = reason if found.verdict != "passed" else ""
    yield f"{verdict}: {why}" if why else verdict
    if found.differences:
        yield from indented(difference_lines(found, verbose=verbose))
    elif found.first_divergence:
        yield f"{INDENT}first layer that differs: {found.first_divergence}"
    if found.crash and found.crash not in found.reason:
        yield f"{INDENT}{found.crash}"
    yield from indented(_proof_lines(found, why, verbose=verbose))
    yield from indented(each for each in found.structure.narrowed if each not in why)
    for provider in found.providers:
        if any(why and why in found.reason for why in (provider.failure, provider.reason)):
            continue
        lines = _provider_details(provider) if verbose else _provider_lines(provider, found.reason)
        yield from indented(lines)
        yield from indented(gain_lines(provider))
    missing = [p.name for p in found.providers if p.state == "not in this build"]
    if missing:
        yield f"{INDENT}not in this build of ONNX Runtime: {', '.join(missing)}"
    if verbose and found.layers:
        yield f"{INDENT}layers, in the order of computation:"
        texts = (f"{layer.name}: {layer.numbers()}{_remarks(layer)}" for layer in found.layers)
        yield from indented(indented(texts))


def _proof_lines(found: "Verification", why: str, *, verbose: bool) -> Iterator[str]:
    """Tell what the files say, unless `why`, the verdict's reason, says it."""
    held = [probe for probe in found.probes if probe.verdict == "held"]
    rest = "; all else is identical" if found.structure.proved else ""
    if held:
        worst = max(probe.fraction for probe in held)
        total = counted(len(found.probes), "region")
        regions = total if len(held) == len(found.probes) else f"{len(held)} of {total}"
        bound = f"within {worst:.2f} of the rounding bound"
        if bound not in why:
            yield f"float64 probe: {regions} {bound}{rest}"
    elif rest and not found.probes:
        yield "the two models are identical"
    if verbose:
        yield from indented(_probe_text(probe) for probe in found.probes)


def _probe_text(probe: "Probe") -> str:
    measured = f", {probe.fraction:.2f}" if probe.verdict == "held" else ""
    note = f" ({probe.note})" if probe.note else ""
    return f"{', '.join(probe.region.outputs)}: {probe.verdict}{measured}{note}"


def _provider_lines(provider: "ProviderReport", reason: str) -> Iterator[str]:
    """Tell the output that says most, unless the verdict's reason tells it."""
    worst = provider.worst
    if worst is None:
        yield from _state(provider)
        return
    if worst.verdict == "differs" and f"output {worst.called} {worst.numbers()}" in reason:
        return
    names = {output.name for output in provider.outputs}
    again = {n for n in names for one in names if n != one and n.startswith(f"{one} for ")}
    number = len(names - again)  # the second run, at other sizes, is of the same outputs
    which = f"of {number} outputs, " if number > 1 else ""
    beside = worst.level.partition(" against ")
    output = f"{worst.called}{beside[1]}{beside[2]}".rstrip()
    yield f"{provider.name}: {which}{output} {worst.numbers()}{_remarks(worst)}"


def _provider_details(provider: "ProviderReport") -> Iterator[str]:
    """Tell every output, and where the nodes ran."""
    yield from _state(provider)
    if provider.outputs:
        nodes = ", ".join(f"{number} on {name}" for name, number in provider.nodes.items())
        yield f"{provider.name}: ran" + (f" (nodes: {nodes})" if nodes else "")
    for output in provider.outputs:
        at = output.level.removeprefix("ORT_")
        yield f"{INDENT}{output.called} at {at} {output.numbers()}{_remarks(output)}"


def _state(provider: "ProviderReport") -> Iterator[str]:
    """Tell why there is nothing to tell of a provider."""
    if provider.failure:
        yield f"{provider.name}: {provider.failure}"
    elif not provider.outputs and provider.state != "not in this build":
        reason = f": {provider.reason}" if provider.reason else ""
        yield f"{provider.name}: {provider.state}{reason}"


def _remarks(output: "OutputComparison") -> str:
    """Say what the numbers do not say."""
    missing = (
        f"; {output.no_evidence} of {output.size} elements are no evidence: NaN, infinite or masked"
        if 0 < output.no_evidence < output.size
        else ""
    )
    said = output.verdict == "agrees" or output.numbers() == output.verdict
    verdict = "" if said else f": {output.verdict}"
    note = f" ({output.note})" if output.note else ""
    return f"{missing}{verdict}{note}"
