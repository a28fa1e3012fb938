"""How long two models take, run in turn.

The two take turns, and which of them begins changes from round to round, so that what goes on
beside them on the machine falls on both alike.
"""

import time
from collections.abc import Callable

from bnfold.verification.gain import Times, Timing

_FEWEST = 3
"""The fewest rounds from which a time is reported."""
_ENOUGH = 5
"""Rounds that are enough where they agree, and nobody asked for a time."""
_MOST = 15
"""Rounds that are enough however little they agree, where nobody asked for a time."""
DEFAULT_BUDGET = 0.33
"""Seconds for all of it, where nobody asked for more."""

Runner = Callable[[], object]
Sides = tuple[list[float], list[float]]
"""How long each run took, in seconds: the original's, and the candidate's."""


def timed_in_turn(
    before: Runner, after: Runner, budget: float, *, asked: bool, warm: bool = False
) -> Timing | None:
    """Return how long two runs take, or None where the budget of seconds is too short to tell.

    A budget that was `asked` for is used up.
    """
    started = time.perf_counter()
    sides = (before, after)
    seconds: Sides = ([], [])
    for side in () if warm else sides:
        side()
    if 2 * _FEWEST * (time.perf_counter() - started) / 2 > budget and not asked:
        return None
    while len(seconds[0]) < _FEWEST or time.perf_counter() - started < budget:
        if not asked and _suffice(seconds):
            break
        order = (0, 1) if len(seconds[0]) % 2 == 0 else (1, 0)
        for which in order:
            begin = time.perf_counter()
            sides[which]()
            seconds[which].append(time.perf_counter() - begin)
    return _timing(seconds)


def _suffice(seconds: Sides) -> bool:
    """Tell whether more rounds would say no more than these."""
    rounds = len(seconds[0])
    return rounds >= _MOST or (rounds >= _ENOUGH and _timing(seconds).is_precise)


def _timing(seconds: Sides) -> Timing:
    return Timing(len(seconds[0]), Times.of(seconds[0]), Times.of(seconds[1]))


def confirmed(
    first: Callable[[], Timing | None], again: Callable[[], Timing | None]
) -> Timing | None:
    """Return a timing by which a candidate is slower only where a second one says so, too.

    Seen: on a loaded machine one session is slower than its equal for as long as it lives, which
    taking turns does not balance. So the second one has sessions of its own. To say "slower" of a
    right fold costs more than a second look.
    """
    timing = first()
    return again() if timing is not None and timing.verdict == "slower" else timing
