"""The help in terminals of any width."""

import click
import pytest
from click.testing import CliRunner

from bnfold.command_line.fold import fold
from bnfold.command_line.verify import verify


@pytest.mark.parametrize("command", [fold, verify])
@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_the_help_fits_the_terminal(command: click.Command, columns: int) -> None:
    done = CliRunner().invoke(command, ["--help"], env={"COLUMNS": str(columns)})
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= columns
    beside = [line for line in lines if line.lstrip().startswith("--thorough ")]
    assert bool(beside) == (columns >= 80), "what it does stands beside it, or else below"
