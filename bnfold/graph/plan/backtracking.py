"""Where a search could go several ways: which it goes, and which it has not gone yet.

A sum has one shift for several branches, and a slice may or may not take along what it does not
show. The likeliest way is taken first; where the search fails, it is begun anew with another way at
one of the forks that it met, then at two of them, and so on, but only so many times that planning
stays linear in the graph.
"""

from collections import deque
from typing import Final

_ATTEMPTS: Final = 12


class Backtracking:
    """The forks of one search, over its attempts."""

    def __init__(self) -> None:
        self._told: tuple[int, ...] = ()  # the ways at the first forks; then always the first one
        self._met: list[int] = []  # how many ways each fork of this attempt has
        self._waiting: deque[tuple[int, ...]] = deque()
        self._left = _ATTEMPTS - 1

    def choose(self, ways: int) -> int:
        """Return which of so many ways to go."""
        fork = len(self._met)
        self._met.append(ways)
        return self._told[fork] if fork < len(self._told) else 0

    def try_again(self) -> bool:
        """Begin another attempt, with other ways; return whether there is one left."""
        for fork in reversed(range(len(self._told), len(self._met))):
            taken = self._told + (0,) * (fork - len(self._told))
            self._waiting.extend((*taken, way) for way in range(1, self._met[fork]))
        if not self._waiting or not self._left:
            return False
        self._left -= 1
        self._told, self._met = self._waiting.popleft(), []
        return True
