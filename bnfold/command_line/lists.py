"""`bnfold ops` and `bnfold explain`: what bnfold knows, and what its reasons mean."""

import click

from bnfold.command_line.failing import one_line_errors
from bnfold.command_line.options import meant
from bnfold.errors import RequestError


@click.command(name="bnfold ops", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def ops(*, markdown: bool) -> None:
    """List the operators that bnfold knows, and what it can do with each."""
    with one_line_errors(verbose=False):
        from bnfold.rules.tables_text import as_markdown, as_text

        click.echo(as_markdown() if markdown else as_text())


def _codes(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    from bnfold.reasons import Reason

    return [reason.value for reason in Reason if reason.value.startswith(begun)]


@click.command(name="bnfold explain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("code", required=False, shell_complete=_codes)
@click.option("--markdown", is_flag=True, help="Print all explanations as Markdown.")
def explain(code: str | None, *, markdown: bool) -> None:
    """Explain why a node was kept: what CODE means, and what to do about it.

    Without CODE all codes are listed.
    """
    with one_line_errors(verbose=False):
        from bnfold.reasons import Reason
        from bnfold.remedies import as_markdown, explanation, listing

        if code is None:
            click.echo(as_markdown() if markdown else listing(), nl=not markdown)
            return
        codes = {reason.value: reason for reason in Reason}
        word = code.lower().replace("_", "-")
        if word not in codes:
            listed = " (bnfold explain lists them)"
            raise RequestError(f"{code}: no such reason{meant(word, codes) or listed}")
        click.echo(explanation(codes[word]))
