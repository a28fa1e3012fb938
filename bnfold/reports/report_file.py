"""Report files: JSON, lines of JSON, or a page.

What is written are entries, one for each model: the values of `bnfold.reports.report`.
"""

import json
import os
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.files.atomic import os_errors_as_requests, real_target
from bnfold.files.publish import write_whole
from bnfold.files.readers import reads
from bnfold.plain import Plain

_HTML = frozenset({".html", ".htm"})
_LINES = ".jsonl"


def check_report_path(path: Path, used: Iterable[Path] = ()) -> None:
    """Make sure, before any work is done, that a report can be written to a path.

    Args:
        path: The path.
        used: What is read and written besides; none of it may be the report, nor may the data
            files of a model among it.

    Raises:
        RequestError: It cannot, or HTML needs the extra `bnfold[html]`.
    """
    if path.suffix.lower() not in {".json", _LINES, *_HTML}:
        raise RequestError(f"{path}: a report is written to a .json, .jsonl or .html file")
    with os_errors_as_requests(path):
        real = real_target(path)
        if not os.access(real.parent, os.W_OK):
            raise RequestError(f"{path}: the folder {real.parent} is write-protected")
        for file in used:
            if os.path.realpath(file) == os.path.realpath(real) or _is_same(real, file):
                raise RequestError(f"{path}: this file is used, a report would overwrite it")
            if real.exists() and reads(file, real):
                raise RequestError(f"{path}: this is data of {file}, a report would overwrite it")
    if is_page(path):
        from bnfold.reports.page import require_jinja

        require_jinja()


def is_page(path: Path) -> bool:
    """Whether a report that is written to a path is a page."""
    return path.suffix.lower() in _HTML


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there, or cannot be
        return False


class ReportFile:
    """A report file, to which an entry is added for each model as soon as its outcome is known.

    In JSON lines (`.jsonl`) each entry is a line that is written at once. JSON and HTML are written
    as a whole when the file is closed; in JSON, one model is an object, several are a list.
    """

    def __init__(self, path: Path, *, several: bool = False) -> None:
        """Begin.

        Args:
            path: The path; its suffix tells the form.
            several: Write a list even of one entry.

        Raises:
            OSError: The file cannot be written.
        """
        self.path = path
        self._several = several
        self._entries: list[Plain] = []
        self._lines = path.suffix.lower() == _LINES
        if self._lines:
            path.write_text("", encoding="utf-8")

    def add(self, entry: Plain) -> None:
        """Add an entry.

        Raises:
            RequestError: It cannot be written; then no part of its line is.
        """
        if not self._lines:
            self._entries.append(entry)
            return
        line = json.dumps(entry.to_dict(), ensure_ascii=False) + "\n"
        with os_errors_as_requests(self.path), self.path.open("ab", buffering=0) as file:
            _append(file, line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Write what is still to be written.

        Raises:
            RequestError: HTML needs the extra `bnfold[html]`, or the file cannot be written.
        """
        if not self._lines:
            write_reports(self.path, self._entries, several=self._several)


def _append(file: FileIO, data: bytes) -> None:
    """Write at the end of a file all bytes, or none of them."""
    whole, view = file.tell(), memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(whole)
        raise


def write_reports(path: Path, entries: Sequence[Plain], *, several: bool = False) -> None:
    """Write entries to a file: as HTML to a path that ends so, else as JSON.

    In JSON, one model is an object, several are a list of objects.

    Raises:
        RequestError: HTML needs the extra `bnfold[html]`, or the file cannot be written.
    """
    several = several or len(entries) != 1
    data = [entry.to_dict() for entry in entries]
    if is_page(path):
        from bnfold.reports.page import render

        networks = [getattr(entry, "network", None) for entry in entries]
        text = render(data, networks)
    else:
        text = json.dumps(data if several else data[0], indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text.encode("utf-8", "backslashreplace"))
