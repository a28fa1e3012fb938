"""The site is built of all documents without a warning, and a broken link is one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is in the extra 'docs'")
pytest.importorskip("material", reason="mkdocs-material is in the extra 'docs'")

_PARTS = ("docs", "website", "bnfold", "benchmarks", "models")


def _built(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    words = ["build", "--strict", "-f", str(root / "website" / "mkdocs.yml"), "-d", str(site)]
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    done = _built(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in tmp_path.rglob("*.html")}
    documents = [*(ROOT / "docs").rglob("*.md"), ROOT / "SECURITY.md"]
    assert {f"{path.stem}.html" for path in documents if path.parent.name != "recipes"} <= pages
    assert "bnfold.fold_file" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    loaded = [line for page in pages for line in _loads((tmp_path / "site" / page).read_text())]
    assert not loaded  # nothing comes from another host


def _loads(text: str) -> list[str]:
    tags = [tag for tag in text.split("<") if tag.startswith(("script", "link", "img"))]
    return [
        tag
        for tag in tags
        if 'src="http' in tag or ('href="http' in tag and "canonical" not in tag)
    ]


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in _PARTS:
        left_out = shutil.ignore_patterns("*.onnx", "__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=left_out)
    for path in ROOT.glob("*.md"):
        shutil.copy(path, root)
    with (root / "docs" / "files.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](gone.md), [nowhere](verification.md#nowhere)\n")
    done = _built(root, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "nowhere" in done.stderr
