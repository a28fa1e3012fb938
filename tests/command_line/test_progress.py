"""The line that says what is being done is one line, however narrow the terminal is."""

import io

import pytest
from rich.console import Console

from bnfold.command_line.progress import Progress


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_it_is_one_line(columns: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=columns)
    status = console.status("")
    Progress(status).show("net.onnx: planning: 13 nodes, of which 5 are batch normalizations, 2 MB")
    with console.capture() as shown:
        console.print(status.renderable)
    assert shown.get().count("\n") == 1
    assert ("2 MB …" in shown.get()) == (columns == 200)


def test_it_comes_back_when_there_is_something_to_say() -> None:
    screen = io.StringIO()
    with Console(file=screen, force_terminal=True).status("") as status:
        shown = Progress(status)
        shown.show("first")
        with shown.aside():
            told = screen.tell()
        assert screen.tell() == told
        shown.show("second")
    assert "second" in screen.getvalue()[told:]
