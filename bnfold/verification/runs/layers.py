"""Looking inside two models: the same tensors of both, layer by layer."""

from collections.abc import Sequence
from pathlib import Path

from bnfold.verification.comparison import OutputComparison, Outputs, OutputVerdict
from bnfold.verification.runs.compare import compare_all
from bnfold.verification.runs.inputs import Feed
from bnfold.verification.runs.loadable import shape_of, with_outputs
from bnfold.verification.runs.providers import caught_stderr
from bnfold.verification.runs.sessions import (
    DISABLE_ALL,
    ENABLE_ALL,
    CannotRunError,
    run,
)

_FIRST = 16
_BUDGET = 1 << 28
"""Bytes of tensors inside one model that are held at a time."""


def tap(path: Path, names: Sequence[str], level: str, provider: str, feed: Feed) -> Outputs:
    """Return tensors inside a model.

    Raises:
        CannotRunError: ONNX Runtime does not take the model with these outputs.
    """
    with caught_stderr():
        return run(with_outputs(path, names), level, provider, [feed], names=names).outputs[0]


def shapes_inside(
    path: Path, names: Sequence[str], provider: str, feed: Feed
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors inside a model; the tensors themselves are not held.

    Raises:
        CannotRunError: ONNX Runtime does not take the model with these outputs.
    """
    wanted = [shape_of(name) for name in names]
    with caught_stderr():
        target = with_outputs(path, names, shapes=True)
        [seen] = run(target, DISABLE_ALL, provider, [feed], names=wanted).outputs
    return {name: tuple(seen[shape_of(name)].tolist()) for name in names}


def compare_layers(
    models: tuple[Path, Path],
    names: Sequence[str],
    provider: str,
    feeds: Sequence[Feed],
    *,
    everything: bool,
) -> list[OutputComparison]:
    """Compare tensors inside two models, in the order of `names`, as many at a time as fit.

    Args:
        models: The original and the candidate.
        names: Tensors that both have, in the order of computation.
        provider: ONNX Runtime's name of the provider to run on.
        feeds: One feed.
        everything: Go on after the first tensor that differs.
    """
    found: list[OutputComparison] = []
    start, count = 0, _FIRST
    while start < len(names):
        chunk = names[start : start + count]
        try:
            old = tap(models[0], chunk, DISABLE_ALL, provider, feeds[0])
            other = tap(models[0], chunk, ENABLE_ALL, provider, feeds[0])
            new = tap(models[1], chunk, DISABLE_ALL, provider, feeds[0])
        except CannotRunError:
            break
        results = compare_all(DISABLE_ALL, old, [other], new)
        found += results
        if not everything and any(r.verdict is OutputVerdict.DIFFERS for r in results):
            break
        start += len(chunk)
        held = sum(array.nbytes for array in old.values())
        count = max(1, int(_BUDGET * len(chunk) / max(held, 1)))
    return found
