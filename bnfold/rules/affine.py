"""The one idea: everything that is folded is a channel affine.

At inference BatchNormalization is a fixed affine map per channel,

    y = γ (x − E) / √(Var + ε) + β  =  s ⊙ x + t,    s = γ / √(Var + ε),   t = β − s E

and so are Mul, Add, Sub, Div and Neg with a constant. `Affine` is the pair (s, t), in float64,
laid along the axes of the tensor it acts on: both arrays have the tensor's rank, and every
dimension is either 1 (the value is the same all along that axis) or the tensor's own. A channel
affine of an NCHW tensor thus has the shape [1, C, 1, 1]; after a Reshape that splits the channels
it has the shape [1, G, C/G, 1, 1], so that a channel shuffle needs no special case.

Two affines compose in closed form, (s₂, t₂) ∘ (s₁, t₁) = (s₂ s₁, s₂ t₁ + t₂). Nothing is rounded
to the storage type until a weight is written.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import isfinite, prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bnfold.frozen import frozen
from bnfold.limits import AXIS
from bnfold.reasons import Reason, Refusal

F64 = NDArray[np.float64]

SAME_RTOL = 1e-12
"""How far two affines may be apart and still be the same: float64 rounding of a few steps, far
below half an ulp of any storage type."""


@frozen(eq=False)
class Affine:
    """y = scale ⊙ x + shift.

    Attributes:
        scale: s, float64, of the tensor's rank, each dimension 1 or the tensor's.
        shift: t, of the same shape as `scale`.
    """

    scale: F64
    shift: F64

    @classmethod
    def of(cls, scale: NDArray[np.generic], shift: NDArray[np.generic]) -> Self:
        """Make an affine of two arrays that broadcast together, without the needless extents.

        Raises:
            Refusal: It would have more values than any affine.
        """
        require_room(np.shape(scale), np.shape(shift))
        s, t = np.asarray(scale, dtype=np.float64), np.asarray(shift, dtype=np.float64)
        if s.shape != t.shape:
            s, t = np.broadcast_arrays(s, t)
        for axis, size in enumerate(s.shape):
            if size > 1 and _constant_along(s, axis) and _constant_along(t, axis):
                s, t = s.take([0], axis), t.take([0], axis)
        return cls(s, t)

    @classmethod
    def identity(cls, rank: int) -> Self:
        """Return the affine that changes nothing."""
        return cls.uniform(1.0, 0.0, rank)

    @classmethod
    def uniform(cls, scale: float, shift: float, rank: int) -> Self:
        """Return the affine that is the same for every element of a tensor of this rank."""
        shape = (1,) * rank
        return cls(np.full(shape, scale), np.full(shape, shift))

    @classmethod
    def along(
        cls, axis: int, rank: int, scale: NDArray[np.generic], shift: NDArray[np.generic]
    ) -> Self:
        """Return the affine that varies along one axis; `scale` and `shift` are vectors."""
        shape = [1] * rank
        shape[axis] = -1
        return cls.of(np.reshape(scale, shape), np.reshape(shift, shape))

    @property
    def size(self) -> int:
        """How many values there are of either."""
        return self.scale.size

    @property
    def rank(self) -> int:
        """The rank of the tensor that this acts on."""
        return self.scale.ndim

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the values vary."""
        return tuple(axis for axis, size in enumerate(self.scale.shape) if size > 1)

    @property
    def has_shift(self) -> bool:
        """Whether anything is added at all."""
        return any_nonzero(self.shift)

    @property
    def has_scale(self) -> bool:
        """Whether anything is multiplied at all."""
        return any_nonzero(self.scale != 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether y = x, exactly."""
        return not self.has_scale and not self.has_shift

    @property
    def is_positive(self) -> bool:
        """Whether every scale is above zero, so that order is kept."""
        return bool((self.scale > 0).all())

    @property
    def is_finite(self) -> bool:
        """Whether every value is a number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def then(self, outer: "Affine") -> "Affine":
        """Return outer ∘ self: first this affine, then the other."""
        require_room(self.scale.shape, outer.scale.shape)
        return Affine.of(outer.scale * self.scale, outer.scale * self.shift + outer.shift)

    def plus(self, other: "Affine") -> "Affine":
        """Return x ↦ self(x) + other(x)."""
        require_room(self.scale.shape, other.scale.shape)
        return Affine.of(self.scale + other.scale, self.shift + other.shift)

    def times(self, factor: float) -> "Affine":
        """Return x ↦ factor · self(x)."""
        return self if factor == 1 else Affine(factor * self.scale, factor * self.shift)

    def apply(self, x: NDArray[np.generic]) -> F64:
        """Return s ⊙ x + t in float64; x has this rank or broadcasts to it."""
        return self.scale * x.astype(np.float64) + self.shift

    def inverse(self) -> "Affine":
        """Return the affine that undoes this one.

        Raises:
            Refusal: A scale is zero.
        """
        if not self.scale.all():
            raise Refusal(Reason.NEEDS_POSITIVE_SCALE, "a scale is zero")
        return Affine.of(1.0 / self.scale, -self.shift / self.scale)

    def scale_only(self) -> "Affine":
        """Return x ↦ s ⊙ x."""
        return Affine.of(self.scale, np.zeros_like(self.shift))

    def same(self, other: "Affine") -> bool:
        """Whether the two are the same but for float64 rounding."""
        if self is other:
            return True
        pairs = ((self.scale, other.scale), (self.shift, other.shift))
        if not all(itertools.starmap(_begin_alike, pairs)):
            return False
        return _comparable(self.scale, other.scale) and all(itertools.starmap(_alike, pairs))

    def vectors(self, axis: int, size: int) -> tuple[F64, F64]:
        """Return (s, t) as two vectors [size] along `axis`.

        Raises:
            Refusal: The values vary along another axis, or are not `size` many.
        """
        if any(varying != axis for varying in self.axes):
            raise Refusal(
                Reason.OTHER_AXIS, f"they vary along {_axes(self.axes)}, the channels lie on {axis}"
            )
        if self.scale.shape[axis] not in (1, size):
            raise Refusal(Reason.OTHER_AXIS, f"{self.scale.shape[axis]} values, {size} channels")
        scale, shift = self.scale.reshape(-1), self.shift.reshape(-1)
        if scale.size == size:
            return scale, shift
        return all_of(scale.item(), size), all_of(shift.item(), size)

    def take(self, axis: int, source: NDArray[np.intp]) -> "Affine":
        """Return the affine whose value at j along `axis` is this one's at `source[j]`.

        Raises:
            Refusal: There is no j; a tensor without elements is not worth a fold.
        """
        if self.scale.shape[axis] == 1:
            return self
        if not source.size:
            raise Refusal(Reason.BAD_PARAMETERS, f"nothing is left of axis {axis}")
        require_room((self.scale.size // self.scale.shape[axis], source.size))
        return Affine.of(self.scale.take(source, axis), self.shift.take(source, axis))

    def scatter(
        self, axis: int, target: NDArray[np.intp], size: int, *, alone: bool = False
    ) -> "Affine":
        """Return the affine that `take(axis, target)` turns into this one.

        Where several positions go to one target they must agree; what no position goes to is
        left as it is. A value that does not vary along `axis` is spread all along it, or with
        `alone` is not.

        Raises:
            Refusal: Positions that need different values go to the same target.
        """
        if self.scale.shape[axis] == 1 and not alone:
            return self
        shape = tuple(size if i == axis else n for i, n in enumerate(self.scale.shape))
        require_room(shape)
        scale, shift = np.ones(shape), np.zeros(shape)
        where = tuple(target if i == axis else slice(None) for i in range(self.rank))
        scale[where], shift[where] = self.scale, self.shift
        if (scale[where] != self.scale).any() or (shift[where] != self.shift).any():
            raise Refusal(Reason.CHANNELS_MIX)
        return Affine.of(scale, shift)

    def moved(self, function: Callable[[F64], F64]) -> "Affine":
        """Return the affine whose arrays went through `function`, which only moves values."""
        return Affine.of(function(self.scale), function(self.shift))


@lru_cache(maxsize=1 << 10)
def all_of(value: float, size: int) -> F64:
    """Return a vector of one value, which takes no memory and cannot be written to."""
    return np.broadcast_to(np.float64(value), (size,))


def any_nonzero(values: NDArray[Any]) -> bool:
    """Whether any value is not zero. On a few values `numpy.any` takes four times as long."""
    return bool(np.count_nonzero(values))


def _constant_along(values: F64, axis: int) -> bool:
    if values.item(0) != values.item(prod(values.shape[axis + 1 :])):  # the second along the axis
        return False
    return bool((values == values.take([0], axis)).all())


def require_room(*shapes: tuple[int, ...]) -> None:
    """Refuse values of these shapes, broadcast together, that are more than any affine has.

    Raises:
        Refusal: They are, or do not broadcast together: what they belong to is no valid model.
    """
    try:
        count = prod(shapes[0] if len(set(shapes)) == 1 else np.broadcast_shapes(*shapes))
    except ValueError:
        told = " and ".join(str(list(shape)) for shape in shapes)
        raise Refusal(Reason.INVALID_NODE, f"shapes {told} do not fit") from None
    if count > AXIS:
        raise Refusal(Reason.TOO_LARGE, f"{count} values")


def _begin_alike(a: F64, b: F64) -> bool:
    """Whether the first elements of two arrays are `_alike`; most that differ differ there."""
    if not (a.size and b.size):
        return True
    one, other = a.item(0), b.item(0)
    return one == other or abs(one - other) <= SAME_RTOL * abs(other)


def _alike(a: F64, b: F64) -> bool:
    """Whether two arrays that broadcast together are the same but for float64 rounding."""
    if a.size == b.size == 1 and isfinite(b.item(0)):
        return True  # they begin alike
    return np.array_equal(a, b) or np.allclose(a, b, rtol=SAME_RTOL, atol=0.0)


def _comparable(a: F64, b: F64) -> bool:
    """Whether two arrays broadcast together, to no more than an affine's values."""
    if a.ndim != b.ndim:
        return False
    pairs = list(zip(a.shape, b.shape, strict=True))
    fit = all(m == n or 1 in (m, n) for m, n in pairs)
    return fit and prod(max(m, n) for m, n in pairs) <= AXIS


def _axes(axes: Sequence[int]) -> str:
    return "axis " + ", ".join(map(str, axes)) if axes else "no axis"
