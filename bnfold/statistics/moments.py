"""The mean and the variance of vectors that come one after the other, without storing them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Moments:
    """The mean of vectors, and how far they lie apart.

    The update is that of Welford, one vector at a time: the difference to the mean so far is
    added, not the vector itself, so nothing is lost to cancellation over millions of vectors.
    Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.

    Attributes:
        count: How many vectors there were.
        mean: Their mean, [C].
        squares: The sum of the squared differences from the mean, [C].
    """

    count: int = 0
    mean: F64 = field(default_factory=lambda: np.zeros(1))
    squares: F64 = field(default_factory=lambda: np.zeros(1))

    def add(self, vector: F64) -> None:
        """Take one more vector, [C]."""
        self.count += 1
        before = vector - self.mean
        self.mean = self.mean + before / self.count
        self.squares = self.squares + before * (vector - self.mean)

    def standard_error(self) -> F64 | None:
        """Return the standard error of the mean, [C]; None from a single vector."""
        if self.count < 2:  # noqa: PLR2004 - one value has no spread
            return None
        error: F64 = np.sqrt(self.squares / (self.count - 1) / self.count)
        return error
