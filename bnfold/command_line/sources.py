"""Which models a command line means, and where each of them goes."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import has_magic
from pathlib import Path

from bnfold.errors import RequestError
from bnfold.files.objects import is_folder, listed
from bnfold.files.remote import called, url_of
from bnfold.frozen import frozen
from bnfold.options import FileOptions
from bnfold.paths import FOLDED, default_target, real_path

PIPE = Path("-")
"""Stands for standard input or output."""


@frozen
class Request:
    """What to do with every model.

    Attributes:
        output: Where the folded model goes, of one.
        directory: The folder that the folded models go to.
        how: What `bnfold.fold_file` takes besides.
    """

    output: Path | None
    directory: Path | None
    how: FileOptions

    def writes_to_stdout(self, sources: Sequence[Path]) -> bool:
        """Whether the folded model goes to standard output."""
        piped = PIPE in sources if self.output is None else self.output == PIPE
        return piped and not self.how.check


@frozen
class Source:
    """A model that was meant.

    Attributes:
        path: Where it is.
        place: Its path within the folder that was named, or its name; it goes there within
            `--directory`.
        refused: Why it cannot be read; empty where that is not known yet.
    """

    path: Path
    place: Path
    refused: str = ""


@frozen
class Sources:
    """The models that were meant.

    Attributes:
        models: The models.
        passed_over: Folded models of an earlier run whose originals lie beside them.
    """

    models: tuple[Source, ...]
    passed_over: int = 0

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where they are."""
        return tuple(source.path for source in self.models)


def find_sources(
    named: Sequence[Path], directory: Path | None = None, *, in_place: bool = False
) -> Sources:
    """Return the models that are named, those in folders, and those that match patterns.

    A folder that cannot be looked into is among them, as refused: its models were meant, too.

    Args:
        named: Files, folders, and patterns as `zoo/**/*.onnx` where no file is called so.
        directory: The folder that the folded models go to; what a folder or a pattern has in there
            was made by an earlier run.
        in_place: Models are replaced, so that links in folders to one model stand for it once.

    Raises:
        RequestError: A folder holds no model, or nothing matches a pattern.
    """
    found: list[Source] = []
    passed_over = 0
    for path in named:
        place = _searched(path)
        if place is None:
            found.append(Source(path, Path(path.name), refused=refused_pipe(path)))
            continue
        folder, within = place
        known = frozenset(within)
        originals = [f for f in within if known.isdisjoint(_origins(f, folder, directory))]
        locked = [] if url_of(path) else list(_locked(path, folder))
        found += locked
        if not originals and not locked:
            why = "this folder holds no .onnx file" if folder == path else "no file is called so"
            raise RequestError(f"{called(path)}: {why}")
        passed_over += len(within) - len(originals)
        chosen = _without_links(originals, found) if in_place else originals
        found += [Source(file, file.relative_to(folder)) for file in chosen]
    return Sources(tuple(found), passed_over)


def _without_links(files: Sequence[Path], found: Sequence[Source]) -> Iterator[Path]:
    """Leave out files of a folder that lead to models found before under other names."""
    first = {_real(source.path): source.path for source in found}
    for file in files:
        if first.setdefault(_real(file), file) == file:
            yield file


def refused_pipe(path: Path) -> str:
    """Say of a pipe with a name, as a shell's `<(…)` is one, how a model is read through one."""
    is_pipe = not url_of(path) and path.is_fifo()
    return f"{path}: this is a pipe; the name - reads a model from standard input" * is_pipe


def _searched(path: Path) -> tuple[Path, list[Path]] | None:
    """Return a folder, or where a pattern begins, with the files that are meant there.

    None for a path that is meant itself.
    """
    if path == PIPE:
        return None
    if url_of(path):
        return _searched_in_store(path)
    if path.is_dir():
        folder, pattern = path, "**/*.onnx"
    elif has_magic(str(path)) and not path.exists():  # the shell has not seen to it, if quoted
        folder, pattern = _parts(path)
    else:
        return None
    within = (file for file in folder.glob(pattern) if file.is_file() or _leads_nowhere(file))
    return folder, sorted(file for file in within if not _is_hidden(file, folder))


def _leads_nowhere(file: Path) -> bool:
    """Whether a file is a link to what is not there: a model that was meant, and is lost."""
    return file.is_symlink() and not file.exists()


def _locked(named: Path, folder: Path) -> Iterator[Source]:
    """Yield the folders in which models are meant that cannot be looked into."""
    errors: list[OSError] = []
    for _ in os.walk(folder, onerror=errors.append):
        if named != folder and "**" not in named.parts:
            break
    for error in errors:
        path = Path(error.filename)
        if not isinstance(error, FileNotFoundError) and not _is_hidden(path, folder):
            why = error.strerror or type(error).__name__
            yield Source(path, path.relative_to(folder), refused=f"{path}: {why}")


def _searched_in_store(path: Path) -> tuple[Path, list[Path]] | None:
    is_there = is_folder(called(path))
    if is_there:
        folder, pattern = path, "**/*.onnx"
    elif has_magic(str(path)) and is_there is None:
        folder, pattern = _parts(path)
    else:
        return None
    url = url_of(folder)
    if url is None:
        raise RequestError(f"{called(path)}: a pattern begins behind the bucket or the host")
    within = (folder / name for name in listed(url, pattern))
    return folder, [file for file in within if not _is_hidden(file, folder)]


def _parts(pattern: Path) -> tuple[Path, str]:
    """Return the folder that a pattern begins in, and the rest of it."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:fixed]), str(Path(*parts[fixed:]))


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _origins(file: Path, folder: Path, directory: Path | None) -> Iterator[Path]:
    """Yield which other files, if they are there, this one was made from by an earlier run."""
    stem = file.stem.removesuffix(FOLDED)
    if stem != file.stem:
        yield file.with_name(f"{stem}{file.suffix}")
    if directory is None:
        return
    real, made = _real(file), _real(directory)
    if made != _real(folder) and real.is_relative_to(made):
        yield folder / real.relative_to(made)


def _real(path: Path) -> Path:
    return path if url_of(path) else real_path(path)


def for_pipes(sources: Sources, request: Request) -> Request:
    """Let a model that comes from a pipe go to a pipe, unless a target is given.

    Raises:
        RequestError: The request makes no sense for a pipe.
    """
    if PIPE in sources.paths:
        if sys.stdin is None:
            raise RequestError("standard input is closed")
        if len(sources.models) > 1:
            raise RequestError("standard input is one model; it cannot be one of several")
        if request.how.in_place or request.directory is not None:
            raise RequestError(
                "a model from standard input goes to --output or standard output,"
                " not to --directory or --in-place"
            )
        request = request if request.output is not None else replace(request, output=PIPE)
    if request.output != PIPE or request.how.check:
        return request
    if sys.stdout is None:
        raise RequestError("standard output is closed")
    if sys.stdout.isatty():
        raise RequestError("a model is not written to a terminal: redirect standard output")
    if request.how.external_data or request.how.share_data:
        raise RequestError("a model on standard output has no data file beside it")
    return replace(request, how=replace(request.how, external_data=False))


def find_targets(sources: Sources, request: Request) -> list[Path | None]:
    """Return where each folded model goes; None where its source tells.

    Raises:
        RequestError: Two models would be written to one place, or over one that is read.
    """
    targets = _chosen(sources, request)
    if not request.how.check:
        _require_apart(sources.paths, targets, request)
    return targets


def files_of(sources: Sources, request: Request) -> list[Path]:
    """Return the model files that will be read and written.

    Raises:
        RequestError: The request makes no sense for these sources.
    """
    request = for_pipes(sources, request)
    files = [*sources.paths]
    for source, target in zip(sources.paths, find_targets(sources, request), strict=True):
        files.append(default_target(source) if target is None else target)
    return [file for file in files if file != PIPE]


def require_explainable(sources: Sources, request: Request) -> None:
    """Refuse to explain a node unless one model is checked.

    Raises:
        RequestError: Several models are named, or nothing is checked.
    """
    if request.how.explain is None:
        return
    if not request.how.check:
        raise RequestError("--explain needs --check: it tells what was tried, and writes no model")
    if len(sources.models) > 1:
        raise RequestError(f"--explain takes one model, not {len(sources.models)}")


def _require_apart(
    sources: Sequence[Path], targets: Sequence[Path | None], request: Request
) -> None:
    """Refuse to write over what another model of the same run is read from or written to."""
    read = {os.path.realpath(source) for source in sources}
    written: dict[str, Path] = {}
    for source, chosen in zip(sources, targets, strict=True):
        if PIPE in (source, chosen):
            continue
        target = chosen or (source if request.how.in_place else default_target(source))
        real = os.path.realpath(target)
        if real in written:
            both = f"both {called(written[real])} and {called(source)}"
            raise RequestError(f"{called(target)}: {both} would be written here")
        written[real] = source
        if real in read and real != os.path.realpath(source):
            raise RequestError(
                f"{called(target)}: the folded {called(source)} would overwrite this, which is to"
                " be folded, too"
            )


def _chosen(sources: Sources, request: Request) -> list[Path | None]:
    chosen = [request.output is not None, request.directory is not None, request.how.in_place]
    if sum(chosen) > 1:
        raise RequestError("--output, --directory and --in-place exclude each other")
    if request.output is not None:
        if len(sources.models) > 1:
            raise RequestError("--output takes one model; use --directory for several")
        return [request.output]
    twice = _twice(sources.paths)
    if twice:
        raise RequestError(f"{called(twice[0])}: this model is named twice")
    if request.directory is None:
        return [None] * len(sources.models)
    return list(_within(request.directory, sources, request))


def _within(directory: Path, sources: Sources, request: Request) -> list[Path]:
    """Return the targets in a folder, and in folders there of what was found in folders."""
    if url_of(directory):
        return [directory / source.place for source in sources.models]
    if directory.exists() and not directory.is_dir() and not request.how.check:
        raise RequestError(f"{directory}: this is not a folder")
    targets = [directory / source.place for source in sources.models]
    twice = _twice(targets)
    if twice:
        sources_of = [s.path for s, t in zip(sources.models, targets, strict=True) if t == twice[0]]
        both = " and ".join(called(path) for path in sources_of[:2])
        raise RequestError(f"{twice[0]}: both {both} would be written here")
    return targets


def _twice(paths: Sequence[Path]) -> list[Path]:
    return [path for path, times in Counter(paths).items() if times > 1]


def make_folders(targets: Sequence[Path | None], request: Request) -> None:
    """Make the folders that `--directory` asks for, once nothing keeps the work from beginning.

    Raises:
        RequestError: One of them cannot be made.
    """
    if request.directory is None or request.how.check or url_of(request.directory):
        return
    for folder in {target.parent for target in targets if target is not None}:
        _make(folder)


def make_folder_of(report: Path, request: Request) -> None:
    """Make the folder that `--directory` asks for, if a report is to be written into it, too.

    Raises:
        RequestError: It cannot be made.
    """
    folder = report.parent
    if request.directory == folder and not (request.how.check or url_of(folder)):
        _make(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RequestError(f"{folder}: this folder cannot be made: {why}") from error
