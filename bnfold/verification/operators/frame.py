"""How a kernel, or the window of a pool, lies on the spatial axes of what it reads."""

from collections.abc import Sequence

from bnfold.frozen import frozen
from bnfold.verification.operators.node import Attributes


@frozen
class Frame:
    """What a node states of its kernel, one number for each spatial axis.

    Attributes:
        strides: Elements from one place of the kernel to the next.
        dilations: Elements from one tap of the kernel to the next.
        extents: Elements from its first tap to its last, with both.
        auto_pad: `SAME_UPPER` and `SAME_LOWER` let sizes decide the pads, `VALID` pads nothing.
        stated: The pads that the node states, those before the first elements and those behind.
    """

    strides: list[int]
    dilations: list[int]
    extents: list[int]
    auto_pad: bytes
    stated: tuple[list[int], list[int]]

    @classmethod
    def of(cls, kernel: Sequence[int], attributes: Attributes) -> "Frame":
        """Return the frame of a kernel of this size.

        Raises:
            ValueError: The node states numbers for another number of axes.
        """
        n = len(kernel)
        auto_pad = attributes.get("auto_pad") or b"NOTSET"
        strides = list(attributes.get("strides") or [1] * n)
        dilations = list(attributes.get("dilations") or [1] * n)
        pads = list(attributes.get("pads") or [0] * 2 * n) if auto_pad != b"VALID" else [0] * 2 * n
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        return cls(strides, dilations, extents, auto_pad, (pads[:n], pads[n:]))

    @property
    def sizes_decide(self) -> bool:
        """Whether the sizes of what is read decide the pads."""
        return self.auto_pad.startswith(b"SAME")

    def pads(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return how many elements are put before and behind axes of these sizes."""
        if not self.sizes_decide:
            return self.stated
        lying = zip(sizes, self.strides, self.extents, strict=True)
        return self.split([(-(-d // s) - 1) * s + e - d for d, s, e in lying])

    def split(self, total: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return so many elements as pads before and behind; the odd one goes where it belongs."""
        less = [max(t, 0) // 2 for t in total]
        more = [max(t, 0) - n for t, n in zip(total, less, strict=True)]
        return (less, more) if self.auto_pad == b"SAME_UPPER" else (more, less)

    def places(self, sizes: Sequence[int], pads: tuple[Sequence[int], Sequence[int]]) -> list[int]:
        """Return how many places the kernel has along each axis, if it must lie on all of it."""
        lying = zip(sizes, *pads, self.extents, self.strides, strict=True)
        return [(d + h + t - e) // s + 1 for d, h, t, e, s in lying]


def met_by(
    tap: Sequence[int], dilations: Sequence[int], strides: Sequence[int], out: Sequence[int]
) -> tuple[slice, ...]:
    """Return the elements that one tap of a kernel meets at all places, `out` along each axis."""
    starts = [p * d for p, d in zip(tap, dilations, strict=True)]
    return tuple(
        slice(a, a + (o - 1) * s + 1, s) for a, o, s in zip(starts, out, strides, strict=True)
    )
