"""Requests to a store besides reading a model: what it holds, by which marks, and putting more.

Stores are what fsspec opens; files in them are named by URLs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from bnfold.errors import RequestError, first_sentence
from bnfold.frozen import frozen

_WHOLE_AT_ONCE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory", "hf"})
"""Where a file appears when all of it is there; elsewhere it is renamed into place."""

_OF_CONTENT: Final = ("md5Hash", "blob_id", "ETag", "etag")
"""What stores call a checksum of a file, or what they change whenever they change the file."""

_OF_TIME: Final = ("mtime", "LastModified", "last_modified", "Last-Modified", "created")
"""What they call the time when a file was written."""


_ONLY_READ: Final = frozenset({"http", "https"})
"""What leads to web servers, which give files and take none."""


@frozen
class Held:
    """What a store says of a file without giving its bytes.

    Attributes:
        size: How many bytes it has.
        mark: What changes when the file does: its checksum in the store, or where there is none
            the time when it was written; empty where the store tells neither.
    """

    size: int
    mark: str

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Held":
        """Read what fsspec tells."""
        told = [f"{name} {info[name]}" for name in (*_OF_CONTENT, *_OF_TIME) if info.get(name)]
        return cls(int(info["size"]), told[0] if told else "")


def held(url: str) -> Held:
    """Return what a store says of a file now.

    Raises:
        RequestError: There is no such file, or the store refuses.
    """
    info = _asked(url)
    if info.get("type") == "directory" or info.get("size") is None:
        raise RequestError(f"{url}: this is a folder, not a model")
    return Held.of(info)


def is_folder(url: str) -> bool | None:
    """Whether a URL names a folder; None where nothing is named so, or the store does not say."""
    try:
        return bool(_asked(url).get("type") == "directory")
    except RequestError:
        return None


def _asked(url: str) -> Mapping[str, Any]:
    with _store_of(url) as (store, name):
        store.invalidate_cache()
        info: Mapping[str, Any] = store.info(name)
    return info


def listed(folder: str, pattern: str) -> list[str]:
    """Return the files of a folder that match a pattern, as paths from there, in order.

    The folder is a URL; in the pattern `**` stands for any folders, as for `Path.glob`.

    Raises:
        RequestError: The store refuses.
    """
    wanted = pattern.split("/")
    with _store_of(folder) as (store, root):
        names = store.find(root, maxdepth=None if "**" in wanted else len(wanted))
    within = (name.removeprefix(root).lstrip("/") for name in names)
    return sorted(name for name in within if _fits(name.split("/"), wanted))


def files_in(folder: str) -> dict[str, Held]:
    """Return what a store says of the files of a folder, not below it, by their names.

    Raises:
        RequestError: The store refuses.
    """
    with _store_of(folder) as (store, root):
        store.invalidate_cache()
        told = store.find(root, maxdepth=1, detail=True)
    return {name.rpartition("/")[2]: Held.of(info) for name, info in told.items()}


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern."""
    if not wanted:
        return not parts
    if wanted[0] == "**" and _fits(parts, wanted[1:]):
        return True
    if not parts or not fnmatchcase(parts[0], wanted[0]):
        return False
    return _fits(parts[1:], wanted if wanted[0] == "**" else wanted[1:])


def read_small(url: str) -> bytes:
    """Return all bytes of a small file.

    Raises:
        RequestError: There is no such file, or the store refuses.
    """
    with _store_of(url) as (store, name):
        store.invalidate_cache()
        data: bytes = store.cat_file(name)
    return data


def write_small(url: str, data: bytes) -> None:
    """Write a small file.

    Raises:
        RequestError: It cannot be written.
    """
    with _store_of(url) as (store, name):
        store.pipe_file(name, data)


def remove(url: str) -> None:
    """Remove a file.

    Raises:
        RequestError: There is no such file, or the store refuses.
    """
    with _store_of(url) as (store, name):
        store.rm_file(name)


def upload(model: Path, url: str, data: Iterable[Path]) -> None:
    """Put a model into a store, behind its data files.

    So nobody finds a model there without its data. If it fails, what was put there before the
    model goes again, unless the model may be there all the same: a store may take a file whose
    sender never hears of it. The error tells what is left.

    Args:
        model: The model.
        url: What it is called in the store.
        data: Its data files, which lie beside it; they keep their names.

    Raises:
        RequestError: The store refuses.
    """
    folder = url.rpartition("/")[0]
    before = found(url)
    beside = {f"{folder}/{file.name}": file for file in data}
    try:
        for place, file in sorted(beside.items()):
            _put(file, place)
        _put(model, url)
    except BaseException as error:
        left = _withdrawn(beside) if _stands(url, before) else [*beside]
        if left and isinstance(error, RequestError):
            raise RequestError(f"{error}; this may be left there: {', '.join(left)}") from error
        raise


def require_writable(url: str) -> None:
    """Raise `RequestError` if a URL leads where nothing can be put."""
    if url.partition(":")[0] in _ONLY_READ:
        raise RequestError(f"{url}: a web server is only read from; name a file, or a store")


def found(url: str) -> Held | None:
    """Return what a store says of a file, None if there is none.

    Raises:
        RequestError: The store refuses.
    """
    try:
        return held(url)
    except RequestError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _stands(url: str, before: Held | None) -> bool:
    """Whether it is certain that a file is what it was."""
    try:
        return (before is None or bool(before.mark)) and found(url) == before
    except RequestError:
        return False


def _withdrawn(places: Iterable[str]) -> list[str]:
    """Remove files that may be there; return those that cannot be removed."""
    left = []
    for place in places:
        try:
            remove(place)
        except RequestError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                left.append(place)
    return left


def _put(file: Path, url: str) -> None:
    """Put a file into a store, where it appears whole if the store can do so."""
    with _store_of(url) as (store, name):
        if url.partition(":")[0] in _WHOLE_AT_ONCE:
            store.put_file(str(file), name)
            return
        hidden = f"{name.rpartition('/')[0]}/.{file.name}.bnfold-partial"
        try:
            store.put_file(str(file), hidden)
            store.mv(hidden, name)
        except BaseException:
            with suppress(Exception):
                store.rm_file(hidden)
            raise


def opened_store(url: str) -> tuple[Any, str]:
    """Return the store of a URL, and how the file is called there.

    Raises:
        RequestError: fsspec, or what it needs for this kind of store, is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        store, name = url_to_fs(url)
    except ImportError as error:
        raise RequestError(
            f"{url}: this takes fsspec and its driver: pip install 'bnfold[remote]'"
        ) from error
    except ValueError as error:
        raise RequestError(f"{url}: {first_sentence(error)}") from error
    return store, name


@contextmanager
def refusals(url: str) -> Iterator[None]:
    """Say in one line what a store refuses; drivers raise what they like."""
    try:
        yield
    except RequestError:
        raise
    except FileNotFoundError as error:
        raise RequestError(f"{url}: No such file or directory") from error
    except Exception as error:
        raise RequestError(f"{url}: {first_sentence(error)}") from error


@contextmanager
def _store_of(url: str) -> Iterator[tuple[Any, str]]:
    """Give the store of a URL, and how the file is called there, for requests to it."""
    store, name = opened_store(url)
    with refusals(url):
        yield store, name
