"""Which local functions call which, how many nodes that makes, and how calls are expanded.

ONNX's own inliner does the expanding, but it knows nothing of the defaults that a function declares
for its attributes (`FunctionProto.attribute_proto`): where a call leaves one out, every node that
refers to it loses it. So every call is made to state what it leaves out first. It also takes the
nodes of a function to be in order, and leaves a function alone that imports another version of an
operator set than the model. So those nodes are sorted first, and a function imports the model's
version where that declares all of its operators as its own does. Callers are
expanded before what they call, for a call inside a function may hand on an attribute that the
function itself was not given, and only then it is the callee's default that counts.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from bnfold.files.walk import OWN_DOMAINS
from bnfold.limits import INLINED, NESTED
from bnfold.onnx_model.order import put_in_order

FunctionId = tuple[str, str]
"""The domain and the name of a local function."""


def expansion(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many nodes a model has once all functions are inlined, and how deep calls nest.

    A function that calls itself counts as more than any limit; no runtime takes it.
    """
    if not model.functions:
        return 0, 0
    bodies = {(f.domain, f.name): Counter(called_functions(f.node)) for f in model.functions}
    sizes: dict[FunctionId, int] = {}
    depths: dict[FunctionId, int] = {}
    try:
        for name in TopologicalSorter(bodies).static_order():
            body = bodies.get(name, Counter())
            sizes[name] = sum(n * sizes[call] for call, n in body.items()) if name in bodies else 1
            depths[name] = max((depths[call] for call in body), default=0) + (name in bodies)
    except CycleError:
        return INLINED + 1, NESTED + 1
    called = list(called_functions(model.graph.node))
    return sum(sizes.get(call, 1) for call in called), max(depths.values(), default=0)


def called_functions(nodes: Collection[onnx.NodeProto]) -> Iterator[FunctionId]:
    """Yield the operator of each node, subgraphs included; it may be a local function."""
    return ((node.domain, node.op_type) for node in _nodes(nodes))


def inlined(model: onnx.ModelProto, functions: Collection[FunctionId]) -> onnx.ModelProto | None:
    """Return the model with these local functions inlined, or None where that is not possible.

    Args:
        model: The model; it is not changed.
        functions: The functions; whatever calls one of them should be among them.
    """
    from onnx.inliner import inline_selected_functions

    size, depth = expansion(model)
    if size > INLINED or depth > NESTED:
        return None
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    _fit_in(flat, functions)
    try:
        for group in _callers_first(model, functions):
            if not _state_defaults(flat, group):
                return None
            flat = inline_selected_functions(flat, sorted(group))
    except Exception:  # noqa: BLE001 - the inliner refuses some legal models; they stay as they are
        return None
    return flat


def _callers_first(
    model: onnx.ModelProto, functions: Collection[FunctionId]
) -> list[Collection[FunctionId]]:
    """Return the functions in groups; only where there are defaults does the order matter."""
    chosen = [f for f in model.functions if (f.domain, f.name) in functions]
    if not any(function.attribute_proto for function in chosen):
        return [functions]
    ids = {(f.domain, f.name) for f in chosen}
    sorter = TopologicalSorter(
        {(f.domain, f.name): {*called_functions(f.node)} & ids for f in chosen}
    )
    sorter.prepare()
    groups: list[Collection[FunctionId]] = []
    while sorter.is_active():
        groups.append(sorter.get_ready())
        sorter.done(*groups[-1])
    return groups[::-1]


def _fit_in(model: onnx.ModelProto, functions: Collection[FunctionId]) -> None:
    """Put the nodes of these functions in order, and let them import what the model does.

    Raises:
        ModelError: Nodes read one another in a circle.
    """
    stated = {o.version for o in model.opset_import if o.domain in OWN_DOMAINS}
    for function in model.functions:
        if (function.domain, function.name) not in functions:
            continue
        put_in_order(function)
        used = {
            op_type for domain, op_type in called_functions(function.node) if domain in OWN_DOMAINS
        }
        for own in function.opset_import:
            if own.domain in OWN_DOMAINS:
                alike = (v for v in stated if all(_is_alike(each, own.version, v) for each in used))
                own.version = next(alike, own.version)


def _is_alike(op_type: str, *opsets: int) -> bool:
    """Tell whether two opsets declare the same version of one of ONNX's operators."""
    try:
        versions = {onnx.defs.get_schema(op_type, opset).since_version for opset in opsets}
    except onnx.defs.SchemaError:
        return False
    return len(versions) == 1


def _state_defaults(model: onnx.ModelProto, functions: Collection[FunctionId]) -> bool:
    """Let every call of these functions state the attributes that have defaults.

    Return False where a call hands on an attribute that its own function need not be given: whether
    the default counts is then different from one call of that function to the next.
    """
    defaults = {
        (f.domain, f.name): {a.name: a for a in f.attribute_proto}
        for f in model.functions
        if (f.domain, f.name) in functions and f.attribute_proto
    }
    if not defaults:
        return True
    bodies = [(model.graph.node, set[str]())]
    bodies += [(f.node, set(f.attribute)) for f in model.functions]
    for nodes, uncertain in bodies:
        for call in _nodes(nodes):
            missing = dict(defaults.get((call.domain, call.op_type), {}))
            for stated in call.attribute:
                if stated.name in missing and stated.ref_attr_name in uncertain:
                    return False
                missing.pop(stated.name, None)
            call.attribute.extend(missing.values())
    return True


def _nodes(nodes: Collection[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of subgraphs too."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)
