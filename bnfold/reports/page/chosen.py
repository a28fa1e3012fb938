"""The options of a run that are worth telling: those that are not as they are by default."""

from collections.abc import Iterator

from bnfold.reports.page.numbers import Data


def chosen(data: Data) -> list[tuple[str, str]]:
    """Return the options of a run, each with its value; a flag has none."""
    return list(_chosen(data.get("options") or {}))


def _chosen(options: Data) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        called = name.replace("_", " ")
        if name in ("verify", "statistics"):
            yield from _part(name, value)
        elif name == "merge":
            if not value:
                yield "no merge", ""
        elif value is True:
            yield called, ""
        elif value or (value is not None and value is not False and value == 0):
            yield called, _told(value)


def _part(name: str, value: Data | None) -> Iterator[tuple[str, str]]:
    if name == "verify" and value is None:
        yield "no verification", ""
    elif value is not None:
        if name == "statistics":
            yield ("new statistics" if value["data"] else "stored statistics"), ""
        yield from _chosen(value)


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    if isinstance(value, dict):
        return "; ".join(f"{name} {_told(item)}" for name, item in value.items())
    return str(value)
