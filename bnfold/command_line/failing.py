"""How the command line fails: one line on stderr, and an exit code."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from bnfold.command_line.foreign import printable_lines
from bnfold.errors import BnfoldError, RequestError, one_line

if TYPE_CHECKING:
    from bnfold.command_line.brief import Brief

_BAD_REQUEST: Final = 2
INTERRUPTED: Final = 130  # as a shell says that SIGINT ended a process
_PIPE_CLOSED: Final = 141  # and SIGPIPE


@contextmanager
def one_line_errors(*, verbose: bool) -> Iterator[None]:
    """Say in one line what is wrong, and exit with 2."""
    try:
        yield
    except BnfoldError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _let_go_of(sys.stdout)
        sys.exit(_PIPE_CLOSED)
    except MemoryError:
        fail("there is not enough memory")
    except OSError as error:
        fail(_refused_by_system(error))
    except Exception as error:  # noqa: BLE001 - nobody should have to read a traceback
        if verbose:
            click.echo(printable_lines(traceback.format_exc()), err=True)
        fail(f"this is a bug in bnfold, please report it: {error!r} (-v shows where)")


def _refused_by_system(error: OSError) -> str:
    return f"{error.filename or 'the output'}: {error.strerror or error}"


def fail(message: str, code: int = _BAD_REQUEST) -> NoReturn:
    """Say what is wrong in one line, and exit."""
    try:
        click.echo(f"bnfold: {one_line(message)}", err=True)
    except OSError:  # there is nobody to tell; the exit code does
        _let_go_of(sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        _let_go_of(sys.stdout)
    sys.exit(code)


def _let_go_of(stream: Any) -> None:  # noqa: ANN401
    """Drop what is buffered: it would fail once more when the interpreter ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def saying_what_was_written(results: "Sequence[Brief]") -> Iterator[None]:
    """Add to errors after the work is done how many models were written."""
    written = sum(result.written for result in results)
    what = "the model was" if len(results) == 1 else f"{written} of {len(results)} models were"
    added = f"; {what} written" if written else ""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RequestError(f"{_refused_by_system(error)}{added}") from error
    except BnfoldError as error:
        raise RequestError(f"{error}{added}") from error
