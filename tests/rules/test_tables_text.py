"""The tables of operators as people read them."""

from pathlib import Path

from bnfold.rules.tables_text import as_markdown

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_tables_that_the_command_prints() -> None:
    assert as_markdown().strip() in README.read_text(encoding="utf-8")
