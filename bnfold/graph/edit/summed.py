"""The numbers of a linear operator that holds a sum.

    K' = s q Σ_j s_j K_j,     b' = s (Σ_j (s_j b_j + t_j) + K' r) + t

from the stored numbers K_j and b_j, in float64 and a few output channels at a time; they are
rounded once, when the weight is written.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.files.recipe import FoldUnderflow, Literal, Recipe
from bnfold.files.rounded import Rounded
from bnfold.files.scaled import ELEMENTS
from bnfold.graph.edit.digits import digits_are_lost
from bnfold.graph.edit.rewriter import Rewriter, set_attribute
from bnfold.graph.index.view import NONE
from bnfold.graph.plan.absorbed import Absorbed, Summand, Summed
from bnfold.rules.affine import F64, any_nonzero
from bnfold.rules.linear_maps import Term, add_into

Read = Callable[[Absorbed, Term], NDArray[np.generic]]
"""Returns the stored kernel of a linear node, [Cout, Cin/g, taps…]."""


class SummedRewriter(Rewriter):
    """See the module."""

    def rewrite(self, edit: Absorbed, summed: Summed) -> None:
        """Give the linear node that holds a sum its weight, and the attributes that go with it."""
        edge = (edit.node, edit.layout.weight)
        self._editor.replace_constant(edge, self._recipe(edit, summed), self._key(edit))
        proto = self._editor.proto(edit.node)
        for name, value, default in _attributes(edit, summed.term):
            stated = any(a.name == name for a in proto.attribute)
            if stated or value != default:
                set_attribute(proto, onnx.helper.make_attribute(name, value))
        if any(a.name == "auto_pad" for a in proto.attribute):
            set_attribute(proto, onnx.helper.make_attribute("auto_pad", "NOTSET"))

    # -- the weight ---------------------------------------------------------------------------

    def _recipe(self, edit: Absorbed, summed: Summed) -> Recipe:
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        dtype, place = self._dtype(weight), f"tensor {self._view.tensors[weight].name!r}"
        self._compute_constants(edit)
        term, layout = summed.term, edit.layout
        inner = term.in_channels // term.groups
        dims = (term.out_channels, inner, *term.window.taps)
        if layout.order == "IO":
            dims = (term.in_channels, term.out_channels // term.groups, *term.window.taps)
        recipe = Rounded(lambda: self._blocks(edit, summed), dtype, dims, place, edit.node)
        if dtype != np.float16:
            return recipe
        blocks = [block.reshape(-1) for block in self._blocks(edit, summed)]
        made: F64 = np.concatenate(blocks).reshape(dims)
        rounded = self._rounded(edit.node, made, dtype)
        laid = replace(layout, groups=term.groups)
        if digits_are_lost(laid, made, rounded, lambda: self.bias(edit)):
            raise FoldUnderflow(edit.node, place, dtype)
        return Literal(rounded)

    def _compute_constants(self, edit: Absorbed) -> None:
        """Compute what is not stored now: recipes are made by several threads."""
        for part in edit.summed.summands if edit.summed is not None else ():
            if part.linear is not None:
                self._compute_constants(part.linear)
        weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
        if edit.summed is None and self._constants.stored(weight) is None:
            self._constants.value(weight)

    def _key(self, edit: Absorbed) -> object:
        """Return what is equal for equal sums of the same constants."""
        factors = _hashable(edit.out_scale), _hashable(edit.in_scale)
        if edit.summed is None:
            return self._view.nodes[edit.node].inputs[edit.layout.weight], factors
        summands = [
            (
                _hashable(part.scale),
                part.term.window,
                part.term.groups,
                part.term.value,
                None if part.linear is None else self._key(part.linear),
            )
            for part in edit.summed.summands
        ]
        return "sum", factors, tuple(summands)

    def _blocks(self, edit: Absorbed, summed: Summed) -> Iterator[F64]:
        """Yield the weight in the order in which it is stored."""
        held: dict[int, NDArray[np.generic]] = {}

        def read(linear: Absorbed, term: Term) -> NDArray[np.generic]:
            weight = self._view.nodes[linear.node].inputs[linear.layout.weight]
            if weight not in held:
                held[weight] = self._constants.value(weight)
            return term.kernel(held[weight])

        term = summed.term
        inner = (term.in_channels // term.groups, *term.window.taps)
        if edit.layout.order == "IO":
            whole = _rows(edit, summed, (0, term.out_channels), read)
            outs = term.out_channels // term.groups
            yield whole.reshape(term.groups, outs, *inner).swapaxes(1, 2)
            return
        step = max(ELEMENTS // max(prod(inner), 1), 1)
        for start, stop in pairwise([*range(0, term.out_channels, step), term.out_channels]):
            yield _rows(edit, summed, (start, stop), read)

    # -- the bias -----------------------------------------------------------------------------

    def bias(self, edit: Absorbed) -> F64:
        """Return b' of a linear node, [Cout]."""
        total = self._stored_bias(edit)
        for part in edit.summed.summands if edit.summed is not None else ():
            total = total + part.shift
            if part.linear is not None:
                total = total + part.scale * self.bias(part.linear)
        if any_nonzero(edit.in_shift):
            total = total + self._response(edit, edit.in_shift)
        return edit.out_scale * total + edit.out_shift

    def _stored_bias(self, edit: Absorbed) -> F64:
        bias = None if edit.summed is not None else self._bias_tensor(edit)
        if bias is None:
            return np.zeros(edit.layout.out_channels)
        stored = self._constants.value(bias).astype(np.float64).reshape(-1)
        return edit.layout.bias_gain * np.broadcast_to(stored, (edit.layout.out_channels,))

    def _bias_tensor(self, edit: Absorbed) -> int | None:
        inputs, index = self._view.nodes[edit.node].inputs, edit.layout.bias
        if edit.bias_node is not None:
            inputs = self._view.nodes[edit.bias_node].inputs
            index = next(i for i, t in enumerate(inputs) if t in self._constants)
        if index is None or index >= len(inputs) or inputs[index] == NONE:
            return None
        return inputs[index]

    def _response(self, edit: Absorbed, shift: F64) -> F64:
        """Return K r for r [Cin] on the input, where no zeros are read around it."""
        if edit.summed is None:
            weight = self._view.nodes[edit.node].inputs[edit.layout.weight]
            return edit.layout.response(self._constants.value(weight), shift)
        total = np.zeros(edit.layout.out_channels)
        for part in edit.summed.summands:
            if part.linear is None:
                total += part.scale * shift * part.term.value * prod(part.term.window.taps)
            else:
                inner = self._response(part.linear, part.linear.in_scale * shift)
                total += part.scale * part.linear.out_scale * inner
        return total


def _hashable(scale: F64) -> object:
    """Return a key for factors: equal for equal ones, and None for factors of 1."""
    return scale.tobytes() if any_nonzero(scale != 1) else None


def _rows(edit: Absorbed, summed: Summed, bounds: tuple[int, int], read: Read) -> F64:
    """Return some rows of a sum's kernel, [rows, Cin/g, taps…]."""
    start, stop = bounds
    term = summed.term
    total = np.zeros((stop - start, term.in_channels // term.groups, *term.window.taps))
    for part in summed.summands:
        kernel = _part_rows(part, bounds, read)
        scale = part.scale[start:stop].reshape(-1, *[1] * (kernel.ndim - 1))
        add_into(total, start, term, part.term, scale * kernel)
    return total * _factor(edit, term, bounds)


def _part_rows(part: Summand, bounds: tuple[int, int], read: Read) -> F64:
    start, stop = bounds
    linear, term = part.linear, part.term
    if linear is None:
        return term.own_kernel()[start:stop]
    if linear.summed is not None:
        return _rows(linear, linear.summed, bounds, read)
    kernel = read(linear, term)[start:stop].astype(np.float64)
    return kernel * (linear.layout.weight_gain * _factor(linear, term, bounds))


def _factor(edit: Absorbed, term: Term, bounds: tuple[int, int]) -> F64:
    """Return s[o] q[i] for some rows, [rows, Cin/g, 1…]."""
    start, stop = bounds
    group = np.arange(start, stop) // (term.out_channels // term.groups)
    inner = edit.in_scale.reshape(term.groups, -1)[group]
    factor: F64 = edit.out_scale[start:stop, None] * inner
    return factor.reshape(*factor.shape, *[1] * len(term.window.taps))


def _attributes(edit: Absorbed, term: Term) -> Iterator[tuple[str, object, object]]:
    """Yield name, value and default of the attributes that say how a sum is applied."""
    window, count = term.window, len(term.window.taps)
    if not count:
        if edit.layout.bias is not None:
            yield "alpha", 1.0, 1.0
        return
    yield "group", term.groups, 1
    yield "kernel_shape", list(window.taps), list(window.taps)
    yield "dilations", list(window.dilations), [1] * count
    end = [max(n, 0) for n in window.end]
    yield "pads", [*window.begin, *end], [0] * (2 * count)
    if window.transposed:
        yield "output_padding", [max(-n, 0) for n in window.end], [0] * count
