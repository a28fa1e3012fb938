"""What was tried for a node, in lines: what becomes of it, then each attempt step by step."""

from collections.abc import Iterator, Sequence

from bnfold.command_line.words import INDENT, coded, named
from bnfold.reports.explained import AttemptRecord, ExplainedRecord, StepRecord
from bnfold.reports.records import FoldRecord, KeptRecord, NodeRecord

_SHORT = 12
"""So many steps of an attempt are listed unless all are asked for: the last ones, which decide."""

_ROLES = {
    "affine": "it scales or shifts each channel",
    "idle": "it changes nothing",
    "bias": "it is the bias of",
    "linear": "it is linear: what is folded goes into its weight",
    "carry": "it can let some scales or shifts pass",
    "unknown": "it is no per-channel arithmetic, and neither absorbs any nor lets it pass",
}

_REFUSED = "it is no per-channel arithmetic that could be folded, nor lets any pass"

_DIRECTIONS = {"output": "up", "input": "down", "nothing": "to be dropped"}

_DEEDS = {
    "passes-up": "lets it pass upwards",
    "passes-down": "lets it pass downwards",
    "absorbs": "absorbs it",
    "merges": "takes it up",
    "goes-too": "is the same, and goes too",
    "recomputes": "has a constant computed anew",
    "restates": "states other numbers",
    "shape-only": "depends on the shape alone",
    "forks": "lets it pass in several ways",
}


def explanation_lines(explained: Sequence[ExplainedRecord], *, verbose: bool) -> Iterator[str]:
    """Tell what was tried for nodes."""
    for record in explained:
        yield f"{_named(record.node)}: {_role(record)}"
        yield from (INDENT + line for line in _lines(record, verbose=verbose))


def _named(node: NodeRecord) -> str:
    """Name a node, and what it makes where its name does not say that."""
    makes = f", which makes '{node.output}'" if node.name and node.name != node.output else ""
    return f"{node}{makes}"


def _role(record: ExplainedRecord) -> str:
    if record.partner is not None:
        return f"{_ROLES[record.role]} {record.partner}"
    if record.obstacle is None:
        return _ROLES[record.role]
    # What an operator may be, and this node is not: an Add of two tensors is no affine.
    known = _ROLES.get(record.role, _REFUSED)
    return f"{known} ({coded(record.obstacle)})"


def _lines(record: ExplainedRecord, *, verbose: bool) -> Iterator[str]:
    node = record.node
    if len(record.run) > 1:
        yield f"its run: {named(record.run)}"
    for attempt in record.attempts:
        yield from _attempt_lines(attempt, record.run, verbose=verbose)
    for fold in record.folds:
        yield _outcome(node, fold)
    for kept in record.kept:
        if node in kept.nodes:
            yield "so it stays"
            yield from _beside(kept)
        else:
            yield f"it stands in the way of {named(kept.nodes)}"
    if not (record.attempts or record.folds or record.kept):
        yield _untouched(record)


def _beside(kept: KeptRecord) -> Iterator[str]:
    """Tell why a branch stays apart from what it is added to."""
    if kept.beside is not None:
        yield f"beside the branches that it is added to: {coded(kept.beside)}"


def _untouched(record: ExplainedRecord) -> str:
    """Say of a node that no attempt and no fold has met why that is so."""
    if record.role == "affine":
        return "nothing was tried: with --bn-only only what has a normalization beside it goes"
    if record.role == "idle":
        return "nothing was tried: a runtime drops it"
    return "nothing was to be folded into it or through it, so it stays as it is"


def _attempt_lines(
    attempt: AttemptRecord, run: tuple[NodeRecord, ...], *, verbose: bool
) -> Iterator[str]:
    title = [_DIRECTIONS[attempt.how]]
    if attempt.nodes != run or len(run) > 1:
        title.append(named(attempt.nodes))
    if attempt.is_scale:
        title.append("the scale alone")
    if attempt.times > 1:
        title.append(f"tried {attempt.times} times")
    yield f"{', '.join(title)}:"
    hidden = 0 if verbose else max(len(attempt.steps) - _SHORT, 0)
    if hidden:
        yield f"{INDENT}… {hidden} steps before (-v shows all)"
    for step in attempt.steps[hidden:]:
        yield f"{INDENT}{_step(step)}"
    if attempt.refused is None:
        yield f"{INDENT}done"
    else:
        yield f"{INDENT}refused: {coded(attempt.refused)}"


def _step(step: StepRecord) -> str:
    detail = f": {step.detail}" if step.detail else ""
    return f"{step.node} {_DEEDS[step.did]}{detail}"


def _outcome(node: NodeRecord, fold: FoldRecord) -> str:
    into = f" into {named(fold.into)}" if fold.into else ""
    if node in fold.taken:
        others = [one for one in fold.taken if one != node]
        endings = {
            "nothing": "so it is dropped",
            "computed": "it is computed, and stored",
            "merged": f"it is put together with {named(others)}",
        }
        together = f", together with {named(others)}" if others else ""
        return endings.get(fold.how, f"so it is folded{into}{together}")
    if node in fold.into:
        return f"it takes up {named(fold.taken)}"
    return f"it lets {named(fold.taken)} pass{into}"
