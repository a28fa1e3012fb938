"""Looking inside two models: the same tensors of both, layer by layer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from bnfold.verification.comparison import OutputComparison, Outputs, OutputVerdict
from bnfold.verification.runs.compare import compare_all
from bnfold.verification.runs.inputs import Feed
from bnfold.verification.runs.loadable import with_outputs
from bnfold.verification.runs.providers import caught_stderr
from bnfold.verification.runs.sessions import (
    DISABLE_ALL,
    ENABLE_ALL,
    CannotRunError,
    run,
)

_FIRST = 16
_SEEN = 2.0**-10
"""The least part of the largest difference that counts as one."""
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
    wanted = [f"the shape of {name}" for name in names]
    nodes = [
        helper.make_node("Shape", [name], [shape])
        for name, shape in zip(names, wanted, strict=True)
    ]
    with caught_stderr():
        target = with_outputs(path, wanted, nodes)
        [seen] = run(target, DISABLE_ALL, provider, [feed], names=wanted).outputs
    return {name: tuple(seen[shape].tolist()) for name, shape in zip(names, wanted, strict=True)}


def is_crossed(
    path: Path, tensor: str, other: str | float, provider: str, feeds: Sequence[Feed]
) -> bool:
    """Tell whether a tensor is somewhere less, and somewhere more, than another one or a number.

    By what is too little to be seen in an output it is not.

    Raises:
        CannotRunError: ONNX Runtime does not take the model with these outputs.
    """
    nodes, ends = _ends_of_difference(tensor, other)
    with caught_stderr():
        target = with_outputs(path, ends, nodes)
        seen = run(target, DISABLE_ALL, provider, feeds, names=ends).outputs
    least, most = (np.array([each[end] for each in seen]) for end in ends)
    seen_from = _SEEN * max(np.abs(least).max(), np.abs(most).max())
    return bool(least.min() < -seen_from and most.max() > seen_from)


def _ends_of_difference(tensor: str, other: str | float) -> tuple[list[onnx.NodeProto], list[str]]:
    """Return nodes that make the least and the largest difference, and what these are called."""
    first, second, off, least, most = (
        f"{what} of {tensor}" for what in ("single", "bound", "excess", "least", "most")
    )
    number = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, float_data=[0.0])
    if isinstance(other, float):
        number.float_data[:] = [other]
        bound = helper.make_node("Constant", [], [second], value=number)
    else:
        bound = helper.make_node("Cast", [other], [second], to=onnx.TensorProto.FLOAT)
    return [
        helper.make_node("Cast", [tensor], [first], to=onnx.TensorProto.FLOAT),
        bound,
        helper.make_node("Sub", [first, second], [off]),
        helper.make_node("ReduceMin", [off], [least], keepdims=0),
        helper.make_node("ReduceMax", [off], [most], keepdims=0),
    ], [least, most]


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
