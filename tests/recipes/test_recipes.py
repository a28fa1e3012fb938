"""Every recipe does what its page says. This installs packages: pytest -m full tests/recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recipe_pages import FOLDER, PAGES, Bench, Page

if TYPE_CHECKING:
    from pathlib import Path

_RUN = [path for path in PAGES if path != FOLDER / "README.md"]


@pytest.mark.full
@pytest.mark.network
@pytest.mark.parametrize("path", _RUN, ids=lambda path: path.stem)
def test_a_recipe_works(path: Path, tmp_path: Path) -> None:
    Bench(tmp_path).run(Page(path))
