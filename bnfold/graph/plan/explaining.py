"""What was tried for one node: planning is done once more, and noted down.

The plan of a model is the same each time, so nothing has to be noted before somebody asks.
"""

from collections.abc import Mapping
from enum import Enum

import numpy as np

from bnfold.frozen import frozen
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.view import NONE
from bnfold.graph.options import FoldOptions
from bnfold.graph.plan.attempts import Attempt, Recorder
from bnfold.graph.plan.draft import Draft
from bnfold.graph.plan.plan import Plan
from bnfold.graph.plan.planner import make_plan
from bnfold.reasons import Obstacle, Reason


class Role(Enum):
    """What a node is to a channel affine, before anything is folded; the value is the code."""

    AFFINE = "affine"
    IDLE = "idle"  # an affine that changes nothing
    BIAS = "bias"  # the Add that is the bias of a linear operator which takes none
    LINEAR = "linear"
    CARRY = "carry"
    REFUSED = "refused"  # its operator is in a table, but the node is not what the table says
    UNKNOWN = "unknown"  # its operator is in no table


@frozen(eq=False)
class Explanation:
    """What was tried for a node.

    Attributes:
        node: The node.
        role: What it is to an affine.
        obstacle: Why it is not what its operator may be; None where it is.
        partner: The linear operator whose bias it is; NONE where it is no bias.
        run: The nodes of the run that it belongs to at first, in order.
        attempts: What was tried to fold the runs that it belongs to, in order.
        plan: What is folded.
    """

    node: int
    role: Role
    obstacle: Obstacle | None
    partner: int
    run: tuple[int, ...]
    attempts: tuple[Attempt, ...]
    plan: Plan


@np.errstate(all="ignore")  # as in planning
def explain(
    graph: Graph, options: FoldOptions, unfit: Mapping[int, Reason], node: int
) -> Explanation:
    """Tell what was tried for a node, where nothing goes into `unfit` nodes."""
    draft = Draft(graph, unfit, options)
    recorder = Recorder(node)
    plan = make_plan(graph, options, unfit, recorder)
    number = draft.run_of.get(node)
    return Explanation(
        node=node,
        role=_role(draft, node),
        obstacle=draft.roles.refused.get(node),
        partner=next((one for one, bias in draft.bias_nodes.items() if bias == node), NONE),
        run=() if number is None else tuple(draft.runs[number].nodes),
        attempts=tuple(recorder.attempts),
        plan=plan,
    )


def _role(draft: Draft, node: int) -> Role:
    roles = draft.roles
    if node in draft.bias_nodes.values():
        return Role.BIAS
    if node in roles.affine:
        return Role.IDLE if roles.affine[node].affine.is_identity else Role.AFFINE
    if node in roles.linear:
        return Role.LINEAR
    if node in roles.carry:
        return Role.CARRY
    return Role.REFUSED if node in roles.refused else Role.UNKNOWN
