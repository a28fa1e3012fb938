"""The tutorial does what its page says."""

from pathlib import Path

import pytest
from commandline import ROOT
from recipe_pages import Bench, Page


@pytest.mark.full
@pytest.mark.network
def test_the_tutorial_works(tmp_path: Path) -> None:
    page = Page(ROOT / "docs" / "tutorial.md")
    assert sum(block.language == "sh" for block in page.blocks) > 5
    Bench(tmp_path).run(page)
