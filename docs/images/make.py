"""Make page.png, the picture in README.md: python docs/images/make.py, with 'bnfold[browser]'."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import bnfold

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "models" / "kept.onnx"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Fold a model of which something is kept, and take a picture of the page about it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = Path(folder) / "kept.html"
        bnfold.fold_file(MODEL, Path(folder) / "kept.onnx").to_html(page_file)
        started = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": 1200, "height": 820})
        page.goto(page_file.as_uri())
        page.screenshot(path=HERE / "page.png")
        started.close()


if __name__ == "__main__":
    main()
