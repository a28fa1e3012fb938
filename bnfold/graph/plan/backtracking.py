"""Backtracking: which of several ways a search takes, and which it has not tried yet.

A search meets a *fork* where an affine can move on in several ways: the shift of a sum can go to
any one of its branches, and the part of a tensor that a Slice leaves out can be scaled or not. The
search takes the likeliest way first. If it fails, it starts again and takes another way at one of
the forks that it met, then at two of them, and so on. The number of attempts is limited, so that
the time for planning stays linear in the size of the graph.
"""

from collections import deque
from typing import Final

_ATTEMPTS: Final = 12


class Backtracking:
    """The forks of one search, in all of its attempts."""

    def __init__(self) -> None:
        self._planned: tuple[int, ...] = ()  # ways at the first forks; at later ones, way 0
        self._met: list[int] = []  # how many ways each fork of this attempt has
        self._waiting: deque[tuple[int, ...]] = deque()
        self._left = _ATTEMPTS - 1

    def choose(self, ways: int) -> int:
        """Return the number of the way to take at a fork with this many ways."""
        fork = len(self._met)
        self._met.append(ways)
        return self._planned[fork] if fork < len(self._planned) else 0

    def try_again(self) -> bool:
        """Prepare the next attempt, which takes other ways; return False if none is left."""
        for fork in reversed(range(len(self._planned), len(self._met))):
            taken = self._planned + (0,) * (fork - len(self._planned))
            self._waiting.extend((*taken, way) for way in range(1, self._met[fork]))
        if not self._waiting or not self._left:
            return False
        self._left -= 1
        self._planned, self._met = self._waiting.popleft(), []
        return True
