"""The command line: a thin layer over the library, and the only place that prints.

`bnfold MODEL...` folds; the names in `COMMANDS` are words of their own. Only click is
imported until there is something to do, so that `--help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import click

from bnfold.command_line.collecting import leave_uncollected, pause_collecting
from bnfold.command_line.completion import VARIABLE, answer, completion
from bnfold.command_line.failing import INTERRUPTED, fail, one_line_errors
from bnfold.command_line.fold import fold
from bnfold.command_line.lists import explain, ops
from bnfold.command_line.verify import verify

COMMANDS: Final[Mapping[str, click.Command]] = {
    "verify": verify,
    "ops": ops,
    "explain": explain,
    "completion": completion,
}
"""What the first word may name; any other is a model to fold."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with these words after `bnfold`, by default those of the process."""
    if arguments is not None:
        _run(list(arguments))
    if VARIABLE in os.environ:
        answer(fold, COMMANDS)
    pause_collecting()
    # Measured: numpy's idle threads take a third of the time that importing it takes, and
    # bnfold's own products, of which the verification has some, run beside ONNX Runtime.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bnfold.processes.fork import own_process

    own_process()
    try:
        _run(sys.argv[1:])
    finally:  # nothing is left to do, and an interrupt would change the exit code
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave_uncollected()


def _run(words: list[str]) -> NoReturn:
    with one_line_errors(verbose=False):
        _carry_out(words)
    raise AssertionError  # for the type checker: whatever happens, it exits


def _carry_out(words: list[str]) -> NoReturn:
    words = words or ["--help"]
    command = COMMANDS.get(words[0])
    name = "bnfold" if command is None else f"bnfold {words[0]}"
    try:
        if command is None:
            code = fold.main(words, prog_name=name, standalone_mode=False)
        else:
            code = command.main(words[1:], prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        fail(f"{error.format_message().rstrip('.')} ({name} --help lists the options)")
    except click.Abort:
        fail("interrupted", INTERRUPTED)
    sys.exit(code)
