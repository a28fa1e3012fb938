"""Which tensors of two models are the same, by construction.

Every tensor of the original gets a number that stands for the expression that computes it: two
tensors have one number only if they are the same operator, with the same attributes, of tensors
with the same numbers. The candidate's tensors are numbered in the same table, in the order of
computation. Where a tensor's number is not that of its namesake in the original, it may still
be the same but for rounding: if a probe of what lies between it and tensors that are already
known to be the same holds, it is given its namesake's number, and the proof goes on from there.
Where its name is that of another tensor, or of none, it is tried as the one that stands in its
place in the original, and if it is that one it takes over the name.

So at the end equal numbers of the graph outputs mean that the candidate computes what the
original computes, from the first node to the last: folds within their bounds, all else equal.
Names are hints only; a renamed tensor costs a proof, a misleading name does not create one.
Bodies of If, Loop and Scan and local functions are matched as part of the node they belong to.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx

from bnfold.files.references import is_external
from bnfold.region import ScopePath
from bnfold.verification.dtypes import Array
from bnfold.verification.operators.demands import Shape
from bnfold.verification.operators.node import EvaluationError, default_domain
from bnfold.verification.operators.table import row_of
from bnfold.verification.proof.cells import with_products
from bnfold.verification.proof.drawing import Drawing
from bnfold.verification.proof.evaluations import is_another_evaluation
from bnfold.verification.proof.identity import (
    Key,
    attribute_content,
    content,
    says_nothing,
    settled,
    unchanged_operand,
    version_of,
)
from bnfold.verification.proof.operands import settled_operands
from bnfold.verification.proof.scopes import Scope, function_scope, graph_scope

_SMALL = 1 << 10  # elements
Explain = Callable[["Numbered", str], str | None]


@dataclass(slots=True)
class Table:
    """A number for each expression; equal expressions of either model have equal numbers."""

    numbers: dict[Key, int] = field(default_factory=dict)

    def number(self, key: Key) -> int:
        """Return the number of an expression; a new expression gets a new number."""
        return self.numbers.setdefault(key, len(self.numbers))


@dataclass(eq=False, slots=True)
class Numbered:
    """A scope whose tensors have numbers.

    Attributes:
        scope: The graph.
        parent: The numbered graph around it; None for the main graph and for functions.
        numbers: The numbers of its tensors by name; initializers are added when they are asked for.
        names: The first tensor of each number.
        bodies: The numbered subgraphs, by `Scope.path`.
        twin: For a scope of the candidate, that of the original; None for one of the original.
        drawn: How often each expression that draws random numbers has occurred so far.
    """

    scope: Scope
    parent: "Numbered | None"
    numbers: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    bodies: dict[ScopePath, "Numbered"] = field(default_factory=dict)
    twin: "Numbered | None" = None
    drawn: Counter[Key] = field(default_factory=Counter)

    @property
    def original(self) -> "Numbered":
        """The twin of a scope of the candidate."""
        assert self.twin is not None  # noqa: S101 - it is one of the candidate
        return self.twin

    def home(self, name: str) -> "Numbered | None":
        """Return the numbered scope that defines `name`: this one or one around it."""
        numbered: Numbered | None = self
        while numbered is not None:
            scope = numbered.scope
            if scope.defines(name):
                return numbered
            numbered = numbered.parent
        return None


class Matcher:
    """Numbers the tensors of both models.

    Attributes:
        table: The number of each expression.
        in_use: All names in the candidate, whose tensors may be renamed; None if they may not.
        written: What a tensor is called in the candidate's file, where it has another name now.
        candidates: The numbered scopes of the candidate that have a twin, by their paths.
        identical: How many tensors of the candidate are computed just as in the original.
    """

    def __init__(
        self,
        originals: Mapping[str, onnx.FunctionProto],
        candidates: Mapping[str, onnx.FunctionProto],
        explain: Explain,
        in_use: set[str] | None = None,
        shapes: Mapping[str, Shape] | None = None,
        written: dict[str, str] | None = None,
    ) -> None:
        """Prepare.

        Args:
            originals: The original's local functions, by `domain::name`.
            candidates: The candidate's.
            explain: Called with a scope of the candidate and the name of a tensor in it; returns
                the original's tensor that it equals but for rounding, having renamed it so, or
                None.
            in_use: All names in the candidate, whose tensors may be renamed; None if they may not.
            shapes: Known shapes of tensors of the original's main graph, by name.
            written: What tensors of other names are called in the candidate's file.
        """
        self.table = Table()
        self._functions = {False: originals, True: candidates}
        self._numbered: dict[tuple[bool, str], Numbered] = {}
        self._explain = explain
        self.in_use = in_use
        self.written = {} if written is None else written
        self._shapes = shapes or {}
        self._shape_of: dict[int, Shape] = {}
        self._drawing = {False: Drawing(originals), True: Drawing(candidates)}
        self.candidates: dict[ScopePath, Numbered] = {}
        self.identical = 0

    def number(self, scope: Scope, twin: Numbered | None, inputs: list[Key]) -> Numbered:
        """Return `scope` with its tensors numbered; with a twin, it is a scope of the candidate.

        `inputs` are the expressions of its inputs, in order.
        """
        numbered = Numbered(scope, None, twin=twin)
        self._fill(numbered, inputs)
        return numbered

    def of(self, numbered: Numbered, name: str) -> int | None:
        """Return the number of a tensor as seen from a scope; None if it has none."""
        known = numbered.numbers.get(name)
        if known is not None:
            return known
        home = numbered.home(name)
        if home is None:
            return None
        if name in home.numbers:
            return home.numbers[name]
        if name in home.scope.tensors:
            home.numbers[name] = self._constant(home, name)
            return home.numbers[name]
        return None

    def same(self, numbered: Numbered, name: str) -> bool:
        """Tell whether the candidate's tensor is known to be the original's of that name."""
        twin = numbered.twin
        if twin is None:
            return False
        number = self.of(numbered, name)
        return number is not None and number == self.of(twin, name)

    def rename(self, numbered: Numbered, name: str, other: str) -> bool:
        """Give a candidate's tensor the name of the original's tensor that it equals, if possible.

        Exporters that number tensors give the same name to different tensors by chance; the one
        that has the name now gets another.
        """
        scope = numbered.scope
        if self.in_use is None or not scope.may_be_renamed(name):
            return False
        if other in self.in_use and not self._loses_name(numbered, other):
            return False
        self._call(scope, name, other)
        return True

    def _call(self, scope: Scope, name: str, other: str) -> None:
        assert self.in_use is not None  # noqa: S101 - names are to be given
        scope.rename(name, other)
        self.in_use.add(other)
        self.written[other] = self.written.pop(name, name)

    def _loses_name(self, numbered: Numbered, name: str) -> bool:
        """Give a candidate's tensor another name, unless it is the original's of that name."""
        assert self.in_use is not None  # noqa: S101 - names are to be given
        if not numbered.scope.may_be_renamed(name) or self.same(numbered, name):
            return False
        fresh = next(n for i in itertools.count() if (n := f"{name} ({i})") not in self.in_use)
        self._call(numbered.scope, name, fresh)
        if name in numbered.numbers:
            number = numbered.numbers[fresh] = numbered.numbers.pop(name)
            if numbered.names.get(number) == name:
                numbered.names[number] = fresh
        return True

    def _fill(self, numbered: Numbered, inputs: list[Key]) -> None:
        scope = numbered.scope
        if numbered.twin is not None:
            self.candidates[scope.path] = numbered
        for name, key in zip(scope.inputs, inputs, strict=True):
            numbered.numbers[name] = number = self.table.number(key)
            self._note_shape(numbered, name, number)
        drawing = self._drawing[numbered.twin is not None]
        for node in scope.nodes:
            key = self._key(numbered, node)
            if drawing.draws(node, scope):
                numbered.drawn[key] += 1
                key = (*key, numbered.drawn[key])
            for index, name in enumerate(node.output):
                if name:
                    number = self._output(numbered, node, (*key, index), name)
                    name = node.output[index]  # noqa: PLW2901 - it may have another name now
                    numbered.numbers[name] = number
                    numbered.names.setdefault(number, name)
                    self._note_shape(numbered, name, number)

    def _output(self, numbered: Numbered, node: onnx.NodeProto, key: Key, name: str) -> int:
        if node.op_type == "Constant" and default_domain(node):
            number = self._constant(numbered, name)
        else:
            passed = self._passed(numbered, node)
            number = self.table.number(key) if passed is None else passed
        twin = numbered.twin
        if twin is None:
            return number
        if number == twin.numbers.get(name):
            self.identical += 1
            return number
        if number in twin.names:
            renamed = self.rename(numbered, name, twin.names[number])
            if renamed or name not in twin.numbers:
                self.identical += 1
                return number
        explained = self._explain(numbered, name)
        known = None if explained is None else self.of(twin, explained)
        return number if known is None else known

    def _passed(self, numbered: Numbered, node: onnx.NodeProto) -> int | None:
        """Return the number of the input that a node returns unchanged; None if it changes it."""
        name = unchanged_operand(node, numbered.scope, partial(self._shape, numbered))
        return None if name is None else self.of(numbered, name)

    def _shape(self, numbered: Numbered, name: str) -> Shape | None:
        """Return what is known of the shape of a tensor of a main graph.

        It goes by number: of equal tensors of both models the same is known, so that nodes that
        read them have the same expression.
        """
        number = None if numbered.scope.path else self.of(numbered, name)
        if number is None:
            return None
        self._note_shape(numbered, name, number)
        return self._shape_of.get(number)

    def _note_shape(self, numbered: Numbered, name: str, number: int) -> None:
        if numbered.twin is None and not numbered.scope.path and name in self._shapes:
            self._shape_of.setdefault(number, self._shapes[name])

    def _key(self, numbered: Numbered, node: onnx.NodeProto) -> Key:
        domain = "" if node.domain == "ai.onnx" else node.domain
        settled = settled_operands(node, numbered.scope, partial(self._shape, numbered))
        left_out = {place for place, array in settled.items() if array is None}
        names = _without_empty_end(
            ["" if place in left_out else name for place, name in enumerate(node.input)]
        )
        names[:1] = [numbered.scope.products.get(id(node), name) for name in names[:1]]
        inputs = [self.of(numbered, name) if name else None for name in names]
        if any(name and number is None for name, number in zip(names, inputs, strict=True)):
            # an invalid model; such a tensor equals nothing
            inputs.append(self.table.number(("undefined", id(node))))
        for place, array in settled.items():
            if array is not None:
                inputs[place] = self.table.number(("content", *content(array)))
        outputs = len(_without_empty_end(node.output))
        function = self._function(numbered, node, domain)
        stated, opset = self.settled(numbered, node)
        op_type = node.op_type
        turned = "" if function else row_of(node).turned
        if turned and turned < op_type:
            op_type, inputs = turned, inputs[::-1]
        what = function or version_of(op_type, domain, opset)
        attributes = tuple(
            self._attribute(numbered, node, attribute)
            for attribute in sorted(node.attribute if function else stated, key=lambda a: a.name)
            if function or not says_nothing(attribute, node.op_type, domain, opset)
        )
        return (op_type, domain, what, attributes, tuple(inputs), outputs)

    def settled(
        self, numbered: Numbered, node: onnx.NodeProto
    ) -> tuple[list[onnx.AttributeProto], int | None]:
        """Return what a node's attributes mean, and by which version; see `identity.settled`."""
        opset = numbered.scope.opsets.get("" if node.domain == "ai.onnx" else node.domain)
        return settled(node, opset, partial(self._any_shape, numbered))

    def _any_shape(self, numbered: Numbered, name: str) -> Shape | None:
        """Return what is known of the shape of a tensor, be it a constant."""
        home = numbered.home(name)
        stored = None if home is None else home.scope.tensors.get(name)
        return self._shape(numbered, name) if stored is None else tuple(stored.dims)

    def _attribute(
        self, numbered: Numbered, node: onnx.NodeProto, attribute: onnx.AttributeProto
    ) -> Key:
        if attribute.type == onnx.AttributeProto.GRAPH:
            return (attribute.name, *self._body(numbered, node, attribute))
        if attribute.type == onnx.AttributeProto.GRAPHS:
            return (attribute.name, id(attribute))
        return attribute_content(numbered.scope.model, attribute)

    def _body(
        self, numbered: Numbered, node: onnx.NodeProto, attribute: onnx.AttributeProto
    ) -> Key:
        first = next((name for name in node.output if name), "")
        path = (*numbered.scope.path, (first, attribute.name))
        scope = with_products(graph_scope(numbered.scope.model, attribute.g, path, numbered.scope))
        twin = None
        if numbered.twin is not None:
            twin = numbered.twin.bodies.get(path)
            if twin is not None and len(twin.scope.inputs) != len(scope.inputs):
                twin = None
        body = Numbered(scope, numbered, twin=twin)
        numbered.bodies[path] = body
        self._fill(body, [("argument", len(path), i) for i in range(len(scope.inputs))])
        return (len(scope.inputs), tuple(self.of(body, name) for name in scope.outputs))

    def _function(self, numbered: Numbered, node: onnx.NodeProto, domain: str) -> Key | None:
        """Return what identifies the local function that a node calls; None if it calls none."""
        is_candidate = numbered.twin is not None
        if not self._functions[is_candidate]:
            return None
        name = f"{domain}::{node.op_type}" + (f":{node.overload}" if node.overload else "")
        function = self._functions[is_candidate].get(name)
        if function is None:
            return None
        done = self._numbered.get((is_candidate, name))
        if done is None:
            twin = self._numbered.get((False, name)) if is_candidate else None
            if is_candidate and twin is None:
                return ("foreign function", name)
            scope = with_products(function_scope(numbered.scope.model, function))
            inputs: list[Key] = [("parameter", i) for i in range(len(scope.inputs))]
            if twin is not None and len(twin.scope.inputs) != len(scope.inputs):
                return ("foreign function", name)
            done = self.number(scope, twin, inputs)
            self._numbered[is_candidate, name] = done
        model = numbered.scope.model
        defaults = tuple(attribute_content(model, a) for a in function.attribute_proto)
        return ("function", defaults, tuple(function.attribute), len(done.scope.inputs),
                tuple(self.of(done, name) for name in done.scope.outputs))  # fmt: skip

    def _constant(self, home: Numbered, name: str) -> int:
        """Return the number of a constant.

        A small one is identified by its content. A large one of the candidate is only compared
        with its namesake in the original. Where the original computes that, it may be rounded
        otherwise.
        """
        other = None if home.twin is None else home.twin.home(name)
        # Where folds are named, all else must be the same.
        may_differ = self.in_use is not None
        if other and may_differ and is_another_evaluation(other.scope, home.scope, name):
            return other.numbers[name]
        if _small(home.scope, name):
            try:
                array = home.scope.constant(name)
            except EvaluationError:  # an invalid model; it equals what is written just so
                model, stated = home.scope.model, home.scope.producers[name][0].attribute
                written = tuple(attribute_content(model, attribute) for attribute in stated)
                return self.table.number(("undefined", written))
            return self.table.number(("content", *content(array)))
        if other is not None and equal_constants(home.scope, other.scope, name):
            number = self.of(other, name)
            if number is not None:
                return number
        return self.table.number(("constant", id(home.scope.model), home.scope.path, name))


def _without_empty_end(names: Sequence[str]) -> list[str]:
    """Return names up to the last that is not empty."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _small(scope: Scope, name: str) -> bool:
    """Tell whether a constant is small enough to be identified by its content."""
    tensor = scope.tensors.get(name)
    if tensor is None:
        stated = scope.producers[name][0].attribute
        if not stated or stated[0].type != onnx.AttributeProto.TENSOR:
            return True
        tensor = stated[0].t
    return bool(math.prod(tensor.dims) <= _SMALL)


def equal_constants(a: Scope, b: Scope, name: str) -> bool:
    """Tell whether two scopes have equal constants of a name, to the last bit."""
    if not (a.is_constant(name) and b.is_constant(name)):
        return False
    first, second = a.tensors.get(name), b.tensors.get(name)
    if first is not None and second is not None:
        unlike = first.data_type != second.data_type or list(first.dims) != list(second.dims)
        if unlike:
            return False
        if is_external(first) and is_external(second):
            return a.model.slice_of(first).same(b.model.slice_of(second))
    try:
        return same_bits(a.constant(name), b.constant(name))
    except EvaluationError:
        return False


def same_bits(a: Array, b: Array) -> bool:
    """Tell whether two arrays have the same dtype, shape and bits, those of NaNs included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return bool((a == b).all())
    x = np.ascontiguousarray(a).reshape(-1).view(np.uint8).data
    y = np.ascontiguousarray(b).reshape(-1).view(np.uint8).data
    return bool(x == y)
