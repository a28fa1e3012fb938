"""How processes ended."""

import signal


def ending(code: int) -> str:
    """Say how a process ended that has this return code, negative if a signal ended it."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    if name == "SIGKILL":
        return "was killed (SIGKILL, as the system does when memory runs out)"
    return f"crashed ({name})"
