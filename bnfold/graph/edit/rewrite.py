"""Carrying a plan out on a copy of the model, through the one editor."""

from collections.abc import Mapping
from dataclasses import field

import numpy as np
import onnx

from bnfold.files.opened import OpenedModel
from bnfold.files.recipe import Recipe, UnfitNumbers
from bnfold.frozen import frozen
from bnfold.graph.edit.editor import Editor
from bnfold.graph.edit.lifting import FIRST_IR, lift_constants, liftable
from bnfold.graph.edit.linear import LinearRewriter
from bnfold.graph.edit.passed import PassedRewriter
from bnfold.graph.edit.runs import RunRewriter
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import Edge
from bnfold.graph.plan.plan import Plan


@frozen
class Rewritten:
    """A folded model that is not written yet.

    Attributes:
        proto: The model, with references to recipes in place of new numbers.
        recipes: The new numbers, by the location that refers to them.
        unlisted: Initializers that are no longer listed as graph inputs.
        notes: What else had to change, in words.
        adds: How many nodes are an Add now, or are followed by one that was not there.
        lifted: How many constants are initializers now.
        dropped: The nodes that are gone, those among them that made constants only for others.
        replaced: What is read in place of a constant, by (node, input index).
    """

    proto: onnx.ModelProto
    recipes: dict[str, Recipe]
    unlisted: tuple[str, ...]
    dropped: frozenset[int]
    notes: tuple[str, ...] = ()
    adds: int = 0
    replaced: Mapping[Edge, Recipe] = field(default_factory=dict)
    lifted: int = 0


@np.errstate(all="ignore")  # what is not finite is refused, and by name
def rewrite(opened: OpenedModel, graph: Graph, plan: Plan, *, lift: bool = False) -> Rewritten:
    """Carry a plan out on a copy of the model.

    Raises:
        UnfitNumbers: Values do not fit into their element type.
    """
    editor = Editor(graph, plan)
    linear = LinearRewriter(opened, graph, editor)
    runs = RunRewriter(opened, graph, editor)
    passed = PassedRewriter(opened, graph, editor)
    _rewrite_all(linear, plan)
    for parted in plan.parted.values():
        linear.part(parted)
    for run in plan.runs:
        runs.rewrite(run)
    for edge, affine in plan.constants.items():
        passed.constant(edge, affine)
    for node, numbers in plan.stated.items():
        passed.state(node, numbers)
    for edge in plan.computed:
        passed.compute(edge)
    for node, signs in plan.sums.items():
        passed.add_fewer(node, signs)
    proto = editor.finish()
    lifted = 0
    if lift and proto.ir_version >= FIRST_IR:
        lifted = lift_constants(proto)
    elif lift and (stay := liftable(proto)):
        editor.notes.append(
            f"{stay} constants stay nodes: at IR version {proto.ir_version} an initializer is an "
            "input of the model, too"
        )
    return Rewritten(
        proto=proto,
        recipes=editor.recipes,
        unlisted=tuple(editor.unlisted),
        dropped=frozenset(editor.dropped),
        notes=tuple(editor.notes),
        adds=editor.adds,
        replaced=editor.replaced,
        lifted=lifted,
    )


def _rewrite_all(linear: LinearRewriter, plan: Plan) -> None:
    """Rewrite every linear node.

    Raises:
        UnfitNumbers: The numbers of some cannot be stored; it tells them all.
    """
    unfit: list[UnfitNumbers] = []
    for absorbed in plan.linear.values():
        try:
            linear.rewrite(absorbed)
        except UnfitNumbers as error:
            unfit.append(error)
    if unfit:
        first = unfit[0]
        first.met = {error.node: error.reason for error in unfit}
        raise first
