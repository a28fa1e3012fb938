"""`bnfold completion`: what a shell offers when the tab key is pressed.

click answers for one command. Here the first word may be a command's name or a model, so the
answer for that word has both, and the answers for later words are those of the command it names.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from bnfold.command_line.failing import fail

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem, ShellComplete

VARIABLE: Final = "_BNFOLD_COMPLETE"
"""Holds what a shell's script asks for, such as `bash_complete`; click's scripts set it."""

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    name="bnfold completion",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Where it goes:
  bash   eval "$(bnfold completion bash)"      in ~/.bashrc
  zsh    eval "$(bnfold completion zsh)"       in ~/.zshrc, after compinit
  fish   bnfold completion fish | source       in ~/.config/fish/config.fish
""",
)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a script that lets SHELL complete commands, options and their values."""
    click.echo(_of(shell, completion).source())


def answer(main: click.Command, commands: Mapping[str, click.Command]) -> NoReturn:
    """Print what a shell may offer for the word at the cursor, and exit."""
    from click.shell_completion import CompletionItem

    shell = os.environ[VARIABLE].partition("_")[0]
    if shell not in _SHELLS:
        fail(f"{VARIABLE}={os.environ[VARIABLE]}: bnfold completes in {', '.join(_SHELLS)}")
    words, begun = _of(shell, main).get_completion_args()
    command = commands.get(words[0]) if words else None
    asked = _of(shell, command or main)
    items = asked.get_completions(words[1:] if command else words, begun)
    if not words and not begun.startswith("-"):
        named = [
            CompletionItem(name, help=known.get_short_help_str())
            for name, known in commands.items()
            if name.startswith(begun)
        ]
        if named and shell == "bash":  # which offers either words or files
            items = [item for item in items if item.type == "plain"] + [*_files(begun)]
        items = [*items, *named]
    click.echo("\n".join(asked.format_completion(item) for item in items))
    raise SystemExit(0)


def _of(shell: str, command: click.Command) -> "ShellComplete":
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    if known is None:
        raise AssertionError(shell)
    return known(command, {}, "bnfold", VARIABLE)


def _files(begun: str) -> "Iterable[CompletionItem]":
    """Yield the files of the current folder whose names begin so."""
    from click.shell_completion import CompletionItem

    for path in sorted(Path().iterdir()):
        if path.name.startswith(begun) and (begun or not path.name.startswith(".")):
            yield CompletionItem(f"{path.name}/" if path.is_dir() else path.name)
