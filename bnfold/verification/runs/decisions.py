"""Outputs behind a decision: an arg-max, a suppression of boxes, a comparison.

A decision turns a difference in the last digit into another index, another box or another number
of boxes. So an output that differs is looked at again if a decision before it fell differently
in the two models. Of an arg-max or top-k the margin is known: the original's scores of the two
choices. Within twice the allowance of the scores the flip is rounding. Of other decisions only
the inputs can be compared; where they agree the output proves nothing in either direction.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from bnfold.verification.comparison import OutputComparison, Outputs, OutputVerdict
from bnfold.verification.dtypes import Array, is_float
from bnfold.verification.operators.table import row_named
from bnfold.verification.runs.compare import compare_output
from bnfold.verification.runs.inputs import Feed
from bnfold.verification.runs.layers import tap
from bnfold.verification.runs.sessions import DISABLE_ALL, ENABLE_ALL, CannotRunError

_MOST = 64


def decisions_before(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Return the nearest decisions above an output."""
    producers = {name: node for node in graph.node for name in node.output if name}
    found: dict[str, onnx.NodeProto] = {}
    pending, seen = [output], {output}
    while pending and len(found) < _MOST:
        node = producers.get(pending.pop())
        if node is None:
            continue
        if _decides(node):
            found[node.output[0]] = node
            continue
        fresh = [name for name in node.input if name and name not in seen]
        seen.update(fresh)
        pending += fresh
    return list(found.values())


def _decides(node: onnx.NodeProto) -> bool:
    """Tell whether a node is a decision; a Cast to an integer or a boolean is one."""
    row = row_named(node.op_type)
    if not row.casts:
        return row.decides
    target = next((a.i for a in node.attribute if a.name == "to"), onnx.TensorProto.FLOAT)
    return not is_float(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(target)))


def judge_flips(
    result: OutputComparison,
    graph: onnx.GraphProto,
    models: tuple[Path, Path],
    provider: str,
    feed: Feed,
    label: str,
    original: Outputs,
    candidate: Outputs,
) -> OutputComparison:
    """Return `result`, judged by the decisions before its output where those fell differently.

    Args:
        result: An output that differs.
        graph: The original's graph.
        models: The original's file and the candidate's.
        provider: ONNX Runtime's name of the provider.
        feed: The feed for which it differs.
        label: What was added to the names of outputs for it.
        original: The original's outputs.
        candidate: The candidate's outputs.
    """
    name = result.name.removesuffix(label) if label else result.name
    decisions = decisions_before(graph, name)
    if not decisions:
        return result
    data = list(dict.fromkeys(node.input[0] for node in decisions))
    falls = list(dict.fromkeys(name for node in decisions for name in node.output if name))
    names = list(dict.fromkeys([*data, *falls]))
    try:
        old, new = (tap(model, names, result.level, provider, feed) for model in models)
        level = ENABLE_ALL if result.level == DISABLE_ALL else DISABLE_ALL
        other = tap(models[0], data, level, provider, feed)
    except CannotRunError:
        return result
    flipped = [node for node in decisions if _fell_differently(node, old, new)]
    if not flipped:
        return result
    scores = {name: compare_output(name, result.level, old[name], [other[name]], new[name])
              for name in data}  # fmt: skip
    wrong = [node for node in flipped
             if scores[node.input[0]].verdict is OutputVerdict.DIFFERS]  # fmt: skip
    if wrong:
        return replace(result, note=f"the input of {wrong[0].op_type} differs already")
    direct = flipped[0]
    choice = row_named(direct.op_type).choice
    if choice is not None and name == direct.output[choice]:
        return _by_margin(result, direct, old[direct.input[0]], scores[direct.input[0]],
                          (original[result.name], candidate[result.name]))  # fmt: skip
    return replace(
        result,
        verdict=OutputVerdict.INCONCLUSIVE,
        note=f"a decision ({direct.op_type}) fell differently; what it was made from agrees",
    )


def _fell_differently(node: onnx.NodeProto, old: Outputs, new: Outputs) -> bool:
    """Tell whether a decision has another discrete output in the candidate."""
    names = [name for name in node.output if name]
    if node.op_type == "TopK":
        names = names[1:] or names
    return any(
        old[name].shape != new[name].shape or bool(np.any(old[name] != new[name])) for name in names
    )


def _by_margin(
    result: OutputComparison,
    node: onnx.NodeProto,
    scores: Array,
    compared: OutputComparison,
    choices: tuple[Array, Array],
) -> OutputComparison:
    attributes = {a.name: a.i for a in node.attribute}
    axis = attributes.get("axis", -1 if node.op_type == "TopK" else 0)
    values = []
    for choice in choices:
        dropped = node.op_type != "TopK" and not attributes.get("keepdims", 1)
        index = np.expand_dims(choice, axis) if dropped else choice
        values.append(np.take_along_axis(scores.astype(np.float64), index, axis))
    margin = float(np.max(np.abs(values[0] - values[1]), initial=0.0))
    within = margin <= 2 * compared.allowance
    return replace(
        result,
        verdict=OutputVerdict.AGREES if within else OutputVerdict.DIFFERS,
        note=f"{result.note}; the widest margin crossed is {margin:.3g}, "
        f"the scores may move by {compared.allowance:.3g}",
    )
