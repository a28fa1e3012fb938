"""What a linear node absorbs: W' = s q W, b' = s (b + W r) + t; and the sum that W and b may be."""

from dataclasses import replace

import numpy as np

from bnfold.frozen import frozen
from bnfold.reasons import Reason, Refusal
from bnfold.rules.affine import F64, Affine, all_of, any_nonzero
from bnfold.rules.linear import Border, Linear
from bnfold.rules.linear_maps import Term


@frozen(eq=False)
class Summand:
    """One of the linear maps of a tensor whose sum a linear node becomes: s L(x) + t.

    Attributes:
        term: How its kernel stands, of known channels.
        scale: s, [Cout]: the channel affine behind it, its sign in the sum among that.
        shift: t, [Cout].
        linear: The linear node that holds its numbers, with what that absorbed; None where L has
            a constant value, as a bare x.
    """

    term: Term
    scale: F64
    shift: F64
    linear: "Absorbed | None" = None

    def times(self, sign: int) -> "Summand":
        """Return it with another sign."""
        return self if sign == 1 else replace(self, scale=-self.scale, shift=-self.shift)


@frozen(eq=False)
class Summed:
    """A weight and a bias that are a sum.

    Attributes:
        term: How its kernel stands.
        summands: What is added up.
        biased: Whether there is a bias in it.
        depth: How many sums stand one inside the other.
    """

    term: Term
    summands: tuple[Summand, ...]
    biased: bool
    depth: int = 1


@frozen(eq=False)
class Absorbed:
    """What one linear node absorbs: so far, while planning goes on, and in a plan all of it.

    Attributes:
        node: The node.
        layout: How its weight lies.
        out_scale: s, [Cout].
        out_shift: t, [Cout].
        in_scale: q, [Cin].
        in_shift: r, [Cin].
        bias_node: The Add behind it that holds its bias, for an operator without one; or None.
        pad: The value of an explicit Pad that takes the zero padding's place; or None.
        summed: The sum that W and b are, where they are not those of the node.
    """

    node: int
    layout: Linear
    out_scale: F64
    out_shift: F64
    in_scale: F64
    in_shift: F64
    bias_node: int | None = None
    pad: float | None = None
    summed: Summed | None = None

    @classmethod
    def nothing(cls, node: int, layout: Linear, bias_node: int | None) -> "Absorbed":
        """Return the state of a node that has absorbed nothing; its vectors take no memory."""
        outs, ins = layout.out_channels, layout.in_channels
        return cls(
            node,
            layout,
            all_of(1, outs),
            all_of(0, outs),
            all_of(1, ins),
            all_of(0, ins),
            bias_node,
        )

    def on_output(self, affine: Affine) -> "Absorbed":
        """Return the state after one more affine on the output."""
        s, t = self.layout.output_vectors(affine)
        return replace(self, out_scale=s * self.out_scale, out_shift=s * self.out_shift + t)

    def on_input(self, affine: Affine) -> "Absorbed":
        """Return the state after one more affine on the input.

        Raises:
            Refusal: The operator reads zeros beyond its input that are no longer zeros.
        """
        q, r = self.layout.input_vectors(affine)
        scale, shift = self.in_scale * q, self.in_scale * r + self.in_shift
        return replace(self, in_scale=scale, in_shift=shift, pad=self._pad_for(scale, shift))

    def without_bias(self) -> "Absorbed":
        """Return the state of the node once its bias is no longer its own."""
        nothing = Absorbed.nothing(self.node, self.layout, None)
        summed = None if self.summed is None else replace(self.summed, biased=False)
        return replace(
            self,
            out_shift=nothing.out_shift,
            in_shift=nothing.in_shift,
            bias_node=None,
            summed=summed,
        )

    def _pad_for(self, scale: F64, shift: F64) -> float | None:
        """Return the value v with scale · v + shift = 0 on every channel, if one is needed."""
        if not any_nonzero(shift) or self.layout.border is Border.NOTHING:
            return None
        if self.layout.border is Border.NEVER:
            raise Refusal(Reason.ZERO_PADDING)
        with np.errstate(all="ignore"):
            values = -shift / scale
        same = np.isfinite(values).all() and np.allclose(values, values[0], rtol=1e-9, atol=0)
        if not same:
            raise Refusal(Reason.ZERO_PADDING, "the channels need different pad values")
        return float(values[0])

    @property
    def has_shift(self) -> bool:
        """Whether a bias is needed."""
        biased = self.summed is not None and self.summed.biased
        return biased or any_nonzero(self.out_shift) or any_nonzero(self.in_shift)

    @property
    def size(self) -> int:
        """How many numbers it holds: of four vectors, and of their product for the weight."""
        layout = self.layout
        vectors = 2 * (layout.out_channels + layout.in_channels)
        both = any_nonzero(self.in_scale != 1) and any_nonzero(self.out_scale != 1)
        parts = self.summed.summands if self.summed is not None else ()
        vectors += 2 * layout.out_channels * len(parts)
        return vectors + both * layout.out_channels * layout.in_channels // layout.groups

    @property
    def extra_nodes(self) -> int:
        """How many nodes have to be added for it."""
        bias = self.has_shift and self.layout.bias is None and self.bias_node is None
        return (self.pad is not None) + (bias and self.layout.with_bias is None)


@frozen(eq=False)
class Parted:
    """A bias that is put through what passes its node, an affine along other axes than channels.

    Attributes:
        state: What the linear node had absorbed by then; its bias node holds all of that.
        through: What the bias has been put through since; None at first.
    """

    state: Absorbed
    through: Affine | None = None

    def then(self, affine: Affine) -> "Parted":
        """Return it after one more affine."""
        through = affine if self.through is None else self.through.then(affine)
        return replace(self, through=through)
