"""How to fold a file, as one value: the options of `bnfold.fold_file`."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from bnfold.errors import RequestError
from bnfold.frozen import frozen
from bnfold.graph.options import EVERYTHING, FoldOptions
from bnfold.plain import fields_of, to_plain
from bnfold.rules.composites import checked_names
from bnfold.verification import VerifyOptions

if TYPE_CHECKING:
    from bnfold.statistics.options import StatisticsOptions

_VERIFY = VerifyOptions()


@frozen
class FileOptions:
    """How to fold a file; `fold_file` documents each option."""

    verify: VerifyOptions | None = _VERIFY
    fold: FoldOptions = EVERYTHING
    statistics: "StatisticsOptions | None" = None
    in_place: bool = False
    check: bool = False
    max_kept: int | None = None
    external_data: bool | None = None
    share_data: bool = False
    digest: bool = True
    explain: str | None = None
    int8: bool | None = None
    picture: bool = True

    @property
    def tells_weights(self) -> bool:
        """Whether to measure what each changed weight loses as int8."""
        return self.int8 if self.int8 is not None else self.verify is not None and not self.check

    def to_dict(self) -> dict[str, Any]:
        """Return as plain JSON-able data what `fold_file` takes; paths are found from any folder.

        Options that only say what to report are left out.
        """
        statistics = None if self.statistics is None else self.statistics.to_dict()
        folding = fields_of(self.fold)
        folding["take_apart"] = sorted(self.fold.take_apart)
        others = {name: to_plain(getattr(self, name)) for name in _DECIDING}
        return {**folding, **others, "statistics": statistics, "verify": to_plain(self.verify)}


_DECIDING = ("in_place", "check", "max_kept", "external_data", "share_data", "explain")


class FileKeywords(TypedDict, total=False):
    """What `fold_file` takes besides the source and the target; it documents each."""

    verify: VerifyOptions | None
    in_place: bool
    check: bool
    max_kept: int | None
    bn_only: bool
    keep_overridable: bool
    statistics: "StatisticsOptions | None"
    merge: bool
    take_apart: Collection[str]
    external_data: bool | None
    share_data: bool
    digest: bool
    explain: str | None
    lift_constants: bool
    for_quantization: bool
    per_tensor: bool
    int8: bool | None


def file_options(**given: Unpack[FileKeywords]) -> FileOptions:
    """Return how to fold a file, from what `fold_file` takes.

    Raises:
        RequestError: `take_apart` names no known composite, or `max_kept` is below 0.
        TypeError: An option is of another type.
    """
    for name, (kind, wanted) in _TYPES.items():
        value = given.get(name)
        if not isinstance(value, kind | None):
            raise TypeError(f"{name} takes {wanted}, not {value!r}")
    _require_statistics_options(given.get("statistics"))
    allowed = given.get("max_kept")
    if allowed is not None and allowed < 0:
        raise RequestError(f"max_kept is {allowed}; it must be 0 or more")
    named: dict[str, Any] = {**given}
    if "take_apart" in named:
        named["take_apart"] = checked_names(named["take_apart"])
    folding = {n: named.pop(n) for n in FoldOptions.__dataclass_fields__ if n in named}
    return FileOptions(fold=FoldOptions(**folding), **named)


_TYPES: Mapping[str, tuple[type, str]] = {
    "verify": (VerifyOptions, "VerifyOptions, or None not to verify"),
    "max_kept": (int, "an integer, or None for no limit"),
    "explain": (str, "the name of a node or of its output"),
}
"""What some options are, besides None, and how to say it."""


def _require_statistics_options(given: object) -> None:
    if given is None:
        return
    from bnfold.statistics.options import StatisticsOptions

    if not isinstance(given, StatisticsOptions):
        raise TypeError(f"statistics takes StatisticsOptions, or None for none, not {given!r}")


def options_of(
    report: Mapping[str, Any],
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> FileKeywords:
    """Return the options with which a model was folded, to repeat it: `fold_file` takes them.

    Args:
        report: The report, as JSON or `Report.to_dict` tells it.
        inputs: The inputs of the verification, where they were arrays: a report holds their
            digests only.

    Raises:
        RequestError: It is no report of a folded model, or does not tell the options; or the
            inputs are not those of that run.
    """
    options = report.get("options") if "source" in report else None
    if options is None:
        raise RequestError("this is no report of folding a model that tells with what options")
    verify, statistics = options["verify"], options["statistics"]
    verified = None if verify is None else VerifyOptions.from_dict(verify, inputs)
    keywords = {**options, "verify": verified}
    if statistics is not None:
        from bnfold.statistics.options import StatisticsOptions

        keywords["statistics"] = StatisticsOptions(**statistics)
    return cast("FileKeywords", keywords)
