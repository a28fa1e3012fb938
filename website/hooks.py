"""Makes one site of the repository's documents, those outside docs/ included.

A document keeps its place: `benchmarks/README.md` becomes the page `benchmarks/README.html`.
`README.md` is the first page. Links are written for readers of the repository, and are
translated here; what is no page (a source file, a folder) is named without a link.
"""

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parent.parent
OUTSIDE: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "benchmarks/mutation_study.md": "benchmarks/mutation_study.md",
    "models/README.md": "models/README.md",
}
"""Documents of the repository that are no pages of docs/, and the pages that they become."""

_LINK: Final = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCED: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def _recipes() -> list[str]:
    """Return the pages of docs/recipes and docs/many.md, the introduction first."""
    found = sorted(each.name for each in (ROOT / "docs" / "recipes").glob("*.md"))
    found.sort(key=lambda name: name != "README.md")
    pages = [f"recipes/{name}" for name in found]
    return pages + ["many.md"] * (ROOT / "docs" / "many.md").exists()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the recipes into the navigation."""
    entries: list[dict[str, Any]] = config.nav or []
    for entry in entries:
        if "Recipes" in entry:
            entry["Recipes"] = _recipes()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Bring in the documents that stand outside docs/."""
    for document, page in OUTSIDE.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Translate links between documents of the repository into links between pages."""
    here = page.file.src_uri
    homes = {page: document for document, page in OUTSIDE.items()}
    document = homes.get(here, f"docs/{here}")

    def translated(found: re.Match[str]) -> str:
        text, link, heading = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), link))
        uri = OUTSIDE.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            if not (ROOT / target).exists():
                return found[0]  # mkdocs warns of it
            return text
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{heading})"

    parts = _FENCED.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(translated, p) for p in parts)
