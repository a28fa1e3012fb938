"""What is being done, on a terminal's last line, and nothing elsewhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnfold.errors import one_line

if TYPE_CHECKING:
    from rich.status import Status


_SPINNER = 3
"""Columns that are not for the text: what turns, a space, and the last one, left free."""


class Progress:
    """A line that changes while the work goes on; other text is printed above it."""

    def __init__(self, status: "Status | None") -> None:
        """Show it through `status`; None to show nothing."""
        self._status = status

    def show(self, text: str) -> None:
        """Say what is being done."""
        if self._status is not None:
            from rich.text import Text

            line = Text(f"{one_line(text)} …")
            line.truncate(max(self._status.console.width - _SPINNER, 1), overflow="ellipsis")
            self._status.update(line)
            self._status.start()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is printed; it is back with what it says next."""
        if self._status is not None:
            self._status.stop()
        yield


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Give what shows progress: on a terminal only, and not if all is to be quiet."""
    dumb = os.environ.get("TERM") == "dumb"
    if quiet or dumb or sys.stderr is None or not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich.console import Console

    with Console(stderr=True).status("", spinner="dots") as status:
        yield Progress(status)
