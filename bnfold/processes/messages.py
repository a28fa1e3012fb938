"""Messages through a pipe: how many bytes there are, then the bytes."""

from typing import IO, Final

_HEAD: Final = 8


def write_message(pipe: IO[bytes], message: bytes) -> None:
    """Send a message.

    Raises:
        OSError: Nobody reads the pipe any more.
    """
    pipe.write(len(message).to_bytes(_HEAD, "little") + message)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> bytes | None:
    """Wait for a message; None where the other end is closed, also in the middle of one."""
    head = pipe.read(_HEAD)
    if len(head) < _HEAD:
        return None
    length = int.from_bytes(head, "little")
    message = pipe.read(length)
    return message if len(message) == length else None
