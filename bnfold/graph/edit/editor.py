"""The one editor: a copy of a model and the few changes that folding needs.

The editor works on a copy of the (skeleton) model and knows nodes and tensors by the view's
numbers. It collects the changes first and applies them in `finish`, so that nobody reads the copy
while it is being edited. Whatever no change names stays as it was, to the byte.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import field

import onnx

from bnfold.files.recipe import Recipe, reference
from bnfold.frozen import slotted
from bnfold.graph.edit.messages import arrange, remove
from bnfold.graph.edit.naming import give_names_back
from bnfold.graph.edit.remarks import forget_quantization, forget_training, retype
from bnfold.graph.facts.graph import Graph
from bnfold.graph.index.names import Names
from bnfold.graph.index.outline import Container
from bnfold.graph.index.view import NONE, Edge, Tensor
from bnfold.graph.plan.plan import Plan

_FIRST_OVERRIDABLE_IR = 4


@slotted
class _NewConstant:
    """A new constant, and the edges that will read it."""

    recipe: Recipe
    wish: str
    edges: list[Edge] = field(default_factory=list)


@slotted
class Inserted:
    """A node that is inserted into a scope, before or behind another node."""

    proto: onnx.NodeProto
    beside: int
    behind: bool


class Editor:
    """See the module."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.view = graph.view
        self.names = Names(graph.view)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(graph.view.model)
        self.recipes: dict[str, Recipe] = {}
        self.replaced: dict[Edge, Recipe] = {}
        self.unlisted: list[str] = []
        self.notes: list[str] = []
        self.adds = 0  # nodes that are an Add now, or are followed by one that was not there
        self.input_names: dict[Edge, str] = {}
        self.output_names: dict[int, str] = {}
        self._kept_inputs: dict[int, list[int]] = {}
        self._graph = graph
        self._plan = plan
        self._containers = self._find_containers()
        self._protos: dict[int, onnx.NodeProto] = {
            node.number: self._containers[node.scope].node[node.index] for node in self.view.nodes
        }
        self.dropped: set[int] = set(plan.removed)
        self._detached: set[Edge] = set()
        self._needed: set[int] = set()
        self._new: dict[int, dict[object, _NewConstant]] = defaultdict(dict)
        self._inserted: list[Inserted] = []
        self._gone_initializers: dict[int, set[str]] = defaultdict(set)
        self._gone_inputs: dict[int, set[str]] = defaultdict(set)
        self._overwritten: dict[int, set[str]] = defaultdict(set)
        self._initializers = [_by_name(container) for container in self._containers]

    def _find_containers(self) -> list[Container]:
        found: list[Container] = []
        functions = iter(self.model.functions)
        for scope in self.view.scopes:
            if scope.is_function:
                found.append(next(functions))
            elif scope.owner == NONE:
                found.append(self.model.graph)
            else:
                owner = self.view.nodes[scope.owner]
                attributes = found[owner.scope].node[owner.index].attribute
                found.append(next(a.g for a in attributes if a.name == scope.attribute))
        return found

    # -- asking -------------------------------------------------------------------------------

    def proto(self, node: int) -> onnx.NodeProto:
        """Return the `NodeProto` of a node in the copy."""
        return self._protos[node]

    def name(self, tensor: int) -> str:
        """Return the name that a tensor will have."""
        root = self._plan.same_as.get(tensor, tensor)
        return self._plan.names.get(root, self.view.tensors[root].name)

    # -- gathering ----------------------------------------------------------------------------

    def replace_constant(self, edge: Edge, recipe: Recipe, key: object) -> None:
        """Let an input, (node, index), read new numbers in place of the constant that it reads.

        Inputs that read the same constant and have equal keys share the new numbers.
        """
        node, index = edge
        source = self.view.nodes[node].inputs[index]
        wish = self.view.tensors[source].name
        new = self._new[source].setdefault(key, _NewConstant(recipe, wish))
        new.edges.append(edge)
        self.replaced[edge] = new.recipe
        self._detached.add(edge)

    def add_constant(self, edge: Edge, recipe: Recipe, wish: str, key: object) -> None:
        """Let an input that was left out read new numbers; inputs with equal keys share them."""
        scope = self.view.nodes[edge[0]].scope
        new = self._new[NONE].setdefault((scope, key), _NewConstant(recipe, wish))
        new.edges.append(edge)

    def redirect(self, edge: Edge, name: str) -> None:
        """Let an input read another tensor, by its name in the copy."""
        self.input_names[edge] = name
        self._detached.add(edge)

    def keep_inputs(self, node: int, order: list[int]) -> None:
        """Let a node have only some of its inputs, in that order."""
        self._kept_inputs[node] = order

    def keep(self, tensor: int) -> None:
        """Keep a constant, because an inserted node reads it."""
        self._needed.add(tensor)

    def insert(self, proto: onnx.NodeProto, beside: int, *, behind: bool) -> None:
        """Insert a node into the scope of another, before or behind it."""
        self._inserted.append(Inserted(proto, beside, behind))

    def new_constant(self, node: int, recipe: Recipe, wish: str) -> str:
        """Add a constant to the scope of a node at once and return its name."""
        return self._put(recipe, wish, self.view.nodes[node].scope, node)

    def drop(self, nodes: Iterable[int]) -> None:
        """Remove nodes."""
        self.dropped.update(nodes)

    def detach(self, node: int) -> None:
        """Forget what a node reads according to the view: its inputs will be set anew."""
        self._detached.update((node, index) for index in range(len(self.view.nodes[node].inputs)))

    # -- carrying out -------------------------------------------------------------------------

    def finish(self) -> onnx.ModelProto:
        """Apply all changes and return the edited copy."""
        self._rename()
        dead = self._find_dead()
        self._place_constants(dead)
        for node, order in self._kept_inputs.items():
            self._protos[node].input[:] = [self._protos[node].input[index] for index in order]
        self._drop_initializers(dead)
        gone = self._forget_names()
        folded = self._gone_initializers[0] | self._overwritten[0]
        self.notes.extend(forget_training(self.model, folded))
        self._rebuild_nodes()
        give_names_back(self._graph, self._containers, self.names, gone)
        return self.model

    def _rename(self) -> None:
        """Rename the tensors that other nodes make from now on, where they are made and read."""
        renamed = {*self._plan.same_as, *self._plan.names}
        for tensor in renamed:
            record = self.view.tensors[tensor]
            name = self.name(tensor)
            if record.producer != NONE and record.producer not in self.dropped:
                maker = self.view.nodes[record.producer]
                if tensor in self._plan.names:
                    self._protos[maker.number].output[maker.outputs.index(tensor)] = name
            for node, index in record.readers:
                if node not in self.dropped and (node, index) not in self._detached:
                    self._protos[node].input[index] = name

        for (node, index), name in self.input_names.items():
            self._protos[node].input[index] = name
        for node, name in self.output_names.items():
            self._protos[node].output[0] = name

    def _place_constants(self, dead: set[int]) -> None:
        """Add the new constants; the first takes the place of the one that nobody reads any more.

        Those that nobody reads are in `dead`, which loses those that are overwritten.
        """
        for source, versions in self._new.items():
            for version in versions.values():
                if source in dead and self._is_stored(source):
                    self._overwrite(source, version)
                    dead.remove(source)
                    name = self.view.tensors[source].name
                else:
                    name = self._put_for(source, version)
                for edge in version.edges:
                    self._read(edge, name)

    def _is_stored(self, tensor: int) -> bool:
        """Whether a constant is stored by itself, so that it can be overwritten."""
        maker = self.view.producer(tensor)
        return self.view.tensors[tensor].initializer is not None or (
            maker is not None and not maker.inputs and len(maker.outputs) == 1
        )

    def _live_readers(self, tensor: int) -> list[Edge]:
        return [
            edge
            for edge in self.view.tensors[tensor].readers
            if edge[0] not in self.dropped and edge not in self._detached
        ]

    def _overwrite(self, tensor: int, new: _NewConstant) -> None:
        """Give a constant new numbers, and let it keep its name and documentation."""
        record = self.view.tensors[tensor]
        stored = reference(record.name, new.recipe, self.recipes)
        if record.initializer is None:
            self.dropped.remove(record.producer)
            proto = self._protos[record.producer]
            del proto.attribute[:]
            proto.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=stored)
            return
        place = self._initializers[record.scope][record.name]
        if place.HasField("doc_string"):
            stored.doc_string = place.doc_string
        stored.metadata_props.extend(place.metadata_props)
        if list(place.dims) != list(stored.dims):
            retype(self._containers[record.scope], stored)
        place.CopyFrom(stored)
        self._overwritten[record.scope].add(record.name)
        self._unlist(record)

    def _unlist(self, record: Tensor) -> None:
        """Take a folded initializer out of the graph's inputs: a caller must not override it now.

        Up to IR version 3 every initializer has to be listed as an input.
        """
        if record.overridable and self.model.ir_version >= _FIRST_OVERRIDABLE_IR:
            self._gone_inputs[record.scope].add(record.name)

    def _put_for(self, source: int, new: _NewConstant) -> str:
        """Add a new constant to a scope that all of its readers see; return its name.

        Readers in several scopes see what their common source sees: its scope, from the start.
        """
        node, _ = min(new.edges)
        scope = self.view.nodes[node].scope
        if all(self.view.nodes[reader].scope == scope for reader, _ in new.edges):
            return self._put(new.recipe, new.wish, scope, node)
        home = self.view.scopes[self.view.tensors[source].scope]
        return self._put(new.recipe, new.wish, home.number, home.nodes[0])

    def _put(self, recipe: Recipe, wish: str, scope: int, node: int) -> str:
        """Add a new constant to a scope: an initializer if that needs no new input, else a node."""
        name = self.names.fresh(wish)
        container = self._containers[scope]
        stored = reference(name, recipe, self.recipes)
        if isinstance(container, onnx.GraphProto) and (
            self.model.ir_version >= _FIRST_OVERRIDABLE_IR
        ):
            container.initializer.append(stored)
            return name
        constant = onnx.NodeProto(op_type="Constant", output=[name])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=stored)
        self.insert(constant, node, behind=False)
        return name

    def _read(self, edge: Edge, name: str) -> None:
        node, index = edge
        inputs = self._protos[node].input
        while len(inputs) <= index:
            inputs.append("")
        inputs[index] = name

    # -- what nobody needs any more -----------------------------------------------------------

    def _find_dead(self) -> set[int]:
        """Return the constants that nothing reads any more; drop the nodes that make them."""
        edges = [
            (node, i) for node in self.dropped for i in range(len(self.view.nodes[node].inputs))
        ]
        edges.extend(self._detached)
        waiting = [*dict.fromkeys(self.view.nodes[node].inputs[index] for node, index in edges)]
        dead: set[int] = set()
        while waiting:
            tensor = waiting.pop()
            if tensor == NONE or tensor in dead or tensor not in self._graph.constants:
                continue
            if self._is_needed(tensor):
                continue
            record = self.view.tensors[tensor]
            if not record.is_stored:
                maker = self.view.nodes[record.producer]
                if any(self._is_needed(output) for output in maker.outputs):
                    continue
                self.dropped.add(maker.number)
                waiting.extend(maker.inputs)
            dead.add(tensor)
        return dead

    def _drop_initializers(self, dead: set[int]) -> None:
        """Remove the initializers that nothing reads any more."""
        for tensor in dead:
            record = self.view.tensors[tensor]
            if not record.is_stored:
                continue
            self._gone_initializers[record.scope].add(record.name)
            if record.overridable:
                self._gone_inputs[record.scope].add(record.name)

    def _is_needed(self, tensor: int) -> bool:
        if tensor == NONE:
            return False
        used = self.view.tensors[tensor].outputs or self._live_readers(tensor)
        return bool(used or tensor in self._needed)

    def _rebuild_nodes(self) -> None:
        """Remove the dropped nodes from their scopes and add the inserted ones."""
        before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        behind: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        for inserted in self._inserted:
            (behind if inserted.behind else before)[inserted.beside].append(inserted.proto)
        touched = {self.view.nodes[n].scope for n in (*self.dropped, *before, *behind)}
        for scope in touched:
            records, ranks, added = self._containers[scope].node, [], []
            for place, node in enumerate(self.view.scopes[scope].nodes):
                ranks.append(None if node in self.dropped else (place, 0))
                added += [((place, -1), proto) for proto in before.get(node, ())]
                added += [((place, 1), proto) for proto in behind.get(node, ())]
            records.extend(proto for _, proto in added)
            arrange(records, [*ranks, *(rank for rank, _ in added)])

    def _forget_names(self) -> dict[int, set[str]]:
        """Remove declarations and annotations of tensors that do not exist any more.

        Returns:
            Their names, by scope.
        """
        gone: dict[int, set[str]] = defaultdict(set)
        stay: dict[int, set[str]] = defaultdict(set)
        for tensor in self._plan.names:
            record = self.view.tensors[tensor]
            gone[record.scope].add(record.name)
            stay[record.scope].add(self.name(tensor))
        for number in self.dropped:
            node = self.view.nodes[number]
            gone[node.scope].update(name for name in node.proto.output if name)
        for scope, names in self._gone_initializers.items():
            container = self._containers[scope]
            assert isinstance(container, onnx.GraphProto)  # noqa: S101 - functions hold none
            remove(container.initializer, lambda stored: stored.name, names)
            remove(container.sparse_initializer, lambda stored: stored.values.name, names)
            gone[scope] |= names
        for scope, names in self._gone_inputs.items():
            container = self._containers[scope]
            assert isinstance(container, onnx.GraphProto)  # noqa: S101 - likewise
            remove(container.input, lambda value: value.name, names)
            if self.model.ir_version >= _FIRST_OVERRIDABLE_IR:  # before, they had to be listed
                self.unlisted.extend(sorted(names))
        vanished = {scope: names - stay[scope] for scope, names in gone.items()}
        for scope, names in vanished.items():
            remove(self._containers[scope].value_info, lambda value: value.name, names)
        other: dict[int, set[str]] = defaultdict(set)
        for tensor in self._plan.changed - self._plan.names.keys():
            record = self.view.tensors[tensor]
            other[record.scope].add(record.name)
        changed = vanished, other, self._overwritten
        self.notes.extend(forget_quantization(self._containers, *changed))
        return vanished


def _by_name(container: Container) -> dict[str, onnx.TensorProto]:
    stored = container.initializer if isinstance(container, onnx.GraphProto) else ()
    return {tensor.name: tensor for tensor in stored}
