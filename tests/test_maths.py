"""The formulas of docs/maths.md, by the code that stands beside them."""

import re
from typing import Any

from commandline import ROOT

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_each_formula_holds() -> None:
    blocks = _BLOCK.findall((ROOT / "docs" / "maths.md").read_text(encoding="utf-8"))
    assert sum("assert" in block for block in blocks) >= 9
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/maths.md", "exec"), names)  # noqa: S102 - our own page
