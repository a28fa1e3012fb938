"""Whether what a probe computes tells anything: it has elements and depends on the inputs."""

import hashlib
from collections.abc import Mapping

import numpy as np

from bnfold.verification.dtypes import Array
from bnfold.verification.operators.magnitude import Tracked
from bnfold.verification.proof.computing import Weights, tracked_of, value_of
from bnfold.verification.proof.cone import Cone
from bnfold.verification.proof.finding import AT_A_TIME


def nothing_in(batch: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return zeros of the shapes of what enters, which take no room."""
    return {
        name: np.broadcast_to(np.zeros((), array.dtype), array.shape)
        for name, array in batch.items()
    }


class Evidence:
    """Finds out whether the original's output has elements and depends on the inputs.

    Of an image that was cut down too far nothing may be left, or nothing but padding: a probe of it
    would compare constants. Where only weights of zero hide the input, another size shows no more.
    """

    def __init__(self, region: Cone, weights: Weights, *, certain: bool) -> None:
        """Look at a region of the original, which is `certain` to tell something, or may not."""
        self._region, self._weights = region, weights
        self.certain = certain or not region.passed
        self.empty, self.reacts = False, False
        self.first: bytes | None = None
        self.zeros: Mapping[str, Array] = {}

    def look_at(self, batch: Mapping[str, Array], value: Array) -> None:
        """Take in the original's output for one input."""
        self.empty |= not value.size
        if self.certain or self.reacts:
            return
        if self.first is not None:
            self.reacts = self.first != digest_of(value)
            return
        rows = value.ndim > 0 and value.shape[0] > 1
        self.reacts = rows and bool((value[:1] != value[1:]).any()) and all(
            array.ndim and array.shape[0] == value.shape[0] for array in batch.values()
        )  # fmt: skip
        if not self.reacts:
            self.first = digest_of(value)
            self.zeros = nothing_in(batch)

    def suffices(self) -> bool:
        """Tell whether the outputs so far are worth comparing."""
        if self.empty or self.certain or self.reacts or self.first is None:
            return not self.empty
        nothing = {name: np.zeros_like(array) for name, array in self.zeros.items()}
        at_nothing = value_of(self._region, self._weights, nothing)
        return self.first != digest_of(at_nothing) or self._would_react(self.zeros)

    def _would_react(self, batch: Mapping[str, Array]) -> bool:
        """Tell whether the original's output would depend on the inputs if no weight were zero.

        The magnitude is computed with weights of magnitude 1, for inputs of 1 and of 2.
        """
        sizes = self._weights.tracked() | {
            name: Tracked(array, np.ones(array.shape), constant=True)
            for name, array in self._weights.values.items()
            if array.dtype.kind == "f"
        }
        given = ({n: np.full_like(a, size) for n, a in batch.items()} for size in (1.0, 2.0))
        once, twice = (tracked_of(self._region, self._weights, e, sizes).magnitude for e in given)
        return not np.array_equal(once, twice)


def digest_of(value: Array) -> bytes:
    """Return a hash of a tensor's shape and numbers, kept instead of the large tensor itself."""
    digest = hashlib.blake2b(repr(value.shape).encode())
    flat = value.reshape(-1)
    for start in range(0, flat.size, AT_A_TIME):
        block = flat[start : start + AT_A_TIME]
        if block.dtype.kind == "f":  # zeros of either sign are equal, and so is all that is NaN
            block = np.where(np.isnan(block), np.nan, block + 0.0)
        digest.update(block.tobytes())
    return digest.digest()
