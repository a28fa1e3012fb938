"""Removing files even if this process is killed.

A process that is killed cannot clean up. So a shell waits at the end of a pipe whose other end
this process holds: when the process is gone, whatever ended it, the system closes the pipe, and
the shell removes the files.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SHELL: Final = Path("/bin/sh")
_SCRIPT: Final = 'read -r _ || rm -rf -- "$@"'


@contextlib.contextmanager
def removed_if_killed(*paths: Path) -> Iterator[None]:
    """Let files and whole folders be removed if the process is killed while the context lasts.

    Where there is no shell they stay, until the next run.
    """
    try:
        shell = subprocess.Popen(  # noqa: S603 - a fixed script; the names are its arguments
            [_SHELL, "-c", _SCRIPT, "bnfold", *(path.absolute() for path in paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to the terminal's processes is not for it
        )
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            shell.communicate(b"all is well\n")
