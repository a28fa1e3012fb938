"""The man page, from the same commands and options as the help.

python -m bnfold.command_line.manual > docs/bnfold.1
"""

import re
from collections.abc import Iterator, Mapping

import click

from bnfold.command_line.fold import fold
from bnfold.command_line.main import COMMANDS
from bnfold.command_line.options import EXIT_CODES, GROUPS
from bnfold.version import __version__


def manual() -> str:
    """Return the man page in the language of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH BNFOLD 1 "" "bnfold {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "bnfold \\- fold batch normalization into convolutions in ONNX models"
    yield ".SH SYNOPSIS"
    commands = {"": fold, **COMMANDS}
    for number, (name, command) in enumerate(commands.items()):
        if number:
            yield ".br"
        yield f".B {_literal(f'bnfold {name}'.strip())}"
        yield _literal(" ".join(_pieces(command)))
    yield ".SH DESCRIPTION"
    yield from _prose(fold.help)
    yield ".SH OPTIONS"
    for title, options in _groups(fold).items():
        yield f".SS {_literal(title)}"
        yield from _described(options)
    yield ".SH COMMANDS"
    for name, command in COMMANDS.items():
        yield f".SS {_literal(f'bnfold {name}')}"
        yield from _prose(command.help)
        yield from _prose(command.epilog)
        for options in _groups(command).values():
            yield from _described(options)
    yield ".SH EXIT STATUS"
    yield from _described({str(code): says for code, says in EXIT_CODES.items()})
    yield ".SH ENVIRONMENT"
    yield from _described({"NO_COLOR": "Any text but an empty one: write no colours."})


def _context(command: click.Command) -> click.Context:
    return click.Context(command, info_name=command.name, help_option_names=["-h", "--help"])


def _pieces(command: click.Command) -> list[str]:
    return command.collect_usage_pieces(_context(command))


def _groups(command: click.Command) -> Mapping[str, Mapping[str, str]]:
    """Return a command's options and what they do, by what they are about."""
    context = _context(command)
    records = {
        param.name: record
        for param in command.get_params(context)
        if (record := param.get_help_record(context)) is not None
    }
    groups = {
        title: dict(records.pop(name) for name in names if name in records)
        for title, names in GROUPS.items()
    }
    groups["Further options"] = dict(records.values())
    return {title: options for title, options in groups.items() if options}


def _described(terms: Mapping[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield ".TP"
        yield f".B {_literal(term)}"
        yield _literal(" ".join(text.split()))


def _prose(text: str | None) -> Iterator[str]:
    """Yield paragraphs; one that begins with a backspace, as click has it, keeps its lines."""
    for paragraph in (text or "").split("\n\n"):
        if not paragraph.strip():
            continue
        yield ".PP"
        if paragraph.lstrip().startswith("\b"):
            yield ".nf"
            yield from (_literal(line) for line in paragraph.strip("\n\b ").splitlines())
            yield ".fi"
        else:
            yield _literal(" ".join(paragraph.split()))


def _literal(text: str) -> str:
    """Return text that man(7) prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped)


if __name__ == "__main__":
    click.echo(manual(), nl=False)
