"""How a process ended, in words."""

import signal


def how_it_ended(code: int) -> str:
    """Return how a process ended, by its return code or minus the number of a signal, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    if name == "SIGKILL":
        return "was killed (SIGKILL, as the system does when memory runs out)"
    return f"crashed ({name})"
