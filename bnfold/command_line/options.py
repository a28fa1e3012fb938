"""Options that several commands share, how they are checked, and how the help lists them."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bnfold.errors import RequestError

if TYPE_CHECKING:
    from bnfold.statistics.options import StatisticsOptions
    from bnfold.verification import VerifyOptions

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "What to fold": (
        "bn_only",
        "no_merge",
        "take_apart",
        "for_quantization",
        "per_tensor",
        "keep_overridable",
        "lift_constants",
        "data",
        "estimate",
        "batch_size",
        "freeze_training",
    ),
    "Where it goes": ("output", "directory", "in_place", "external_data", "share_data"),
    "Many models": ("jobs", "dask", "skip_existing"),
    "Only looking": ("check", "explain", "max_kept"),
    "How it is verified": (
        "providers",
        "inputs",
        "shapes",
        "thorough",
        "seed",
        "timeout",
        "time",
        "no_verify",
        "allow_narrowed",
        "match_outputs_by_name",
    ),
    "What is told": ("report", "quiet", "verbose", "color", "version", "help"),
}
"""The options in the order in which the help lists them, by what they are about."""

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "done, also when there was nothing to fold",
    1: "--check found something to fold",
    2: "the request or the file is bad",
    3: "verification failed",
    4: "a provider that was asked for cannot run",
    5: "more batch normalizations remain than --max-kept allows",
}
"""What each exit code says."""

_CONTRADICTORY = (
    ("quiet", "verbose"),
    ("quiet", "explain"),
    ("inputs", "shapes"),
    ("check", "skip_existing"),
    ("data", "freeze_training"),
    ("data", "share_data"),
    ("freeze_training", "share_data"),
    *(("no_verify", other) for other in ("thorough", "providers", "inputs", "shapes", "time")),
)
_CALLED = {"providers": "provider", "shapes": "shape", "data": "estimate-statistics"}
"""Options that are called something else on the command line."""


_NARROW = 64
"""Columns below which what an option does stands below it rather than beside it."""
_NARROWEST = 20


class Command(click.Command):
    """A command whose help lists the options by what they are about, and then what else there is.

    That is `lists` by their titles, each of terms and what they mean.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        lists: Mapping[str, Mapping[str, str]] | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **settings)
        self.lists = lists or {}

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as wide as the terminal is; click's own is never below 50 columns."""
        columns = shutil.get_terminal_size().columns
        if columns < _NARROW:
            ctx.terminal_width = max(columns, _NARROWEST)
        return super().get_help(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in groups."""
        listed = {param.name: param for param in self.get_params(ctx)}
        for title, names in GROUPS.items():
            records = [listed[name].get_help_record(ctx) for name in names if name in listed]
            rows = [record for record in records if record is not None]
            if rows:
                _write_list(formatter, title, rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the further lists, and the words at the end."""
        for title, meanings in self.lists.items():
            _write_list(formatter, title, [*meanings.items()])
        super().format_epilog(ctx, formatter)


def _write_list(
    formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]
) -> None:
    with formatter.section(title):
        formatter.write_dl(rows, col_max=36 if formatter.width >= _NARROW else 6)


_DEVICES = ("/dev/stdin", "/dev/stdout")
"""What Unix calls the two ends of a pipe; both are `-` here."""


class PathType(click.Path):
    """A path, of which, where a pipe is possible, `-` stands for it and `./-` for a file.

    Whether it can be read shows when it is opened; of several models the others are done anyway.
    """

    def __init__(self, *, or_pipe: bool = False) -> None:
        super().__init__(readable=False)
        self._or_pipe = or_pipe

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path; an empty text, as of a variable that is not set, is refused."""
        if not value:
            self.fail("the name is empty", param, ctx)
        if self._or_pipe and value in _DEVICES:
            return Path("-")
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        is_file = self._or_pipe and str(path) == "-" and value != "-"
        return Path.cwd() / path if is_file else path


class WholeNumber(click.IntRange):
    """An integer in a range; errors call it an integer, where click says "integer range"."""

    name = "integer"


class Number(click.FloatRange):
    """A number in a range; errors call it a number."""

    name = "number"


_VERIFY_OPTIONS = (
    click.option(
        "--provider",
        "providers",
        multiple=True,
        metavar="NAME",
        help="Verify on this execution provider: cpu, cuda, openvino, … Repeatable. "
        "[default: cpu, and cuda where it works]",
    ),
    click.option(
        "--inputs",
        type=PathType(),
        metavar="FILE|DIR",
        help="Verify with these inputs: .npz, .npy, an ONNX test_data_set folder, Polygraphy JSON.",
    ),
    click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=1,3,224,224",
        help="Shape of a generated input. Repeatable.",
    ),
    click.option(
        "--thorough", is_flag=True, help="Verify against float64 and one-ulp jitter as well."
    ),
    click.option("--seed", default=0, show_default=True, help="Seed of the generated inputs."),
    click.option(
        "--timeout",
        type=Number(min=0, min_open=True),
        metavar="SECONDS",
        help="Time limit for loading a model and running it once.  [default: 60, and more for "
        "large models]",
    ),
    click.option(
        "--time",
        type=Number(min=0),
        metavar="SECONDS",
        help="Run both models in turn for so long to time them.  [default: 0.33 at most]",
    ),
)


def _choose_color(ctx: click.Context, _: click.Parameter, chosen: str) -> None:
    """Let click write colours or strip them; by default it strips them where no terminal is.

    `NO_COLOR` is the convention of no-color.org: any text but an empty one means no colours.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    ctx.color = {"always": True, "never": False}.get(chosen, False if plain else None)


COLOR = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    callback=_choose_color,
    expose_value=False,
    help="Write colours; auto: on a terminal, unless NO_COLOR is set.",
)

REPORT = click.option(
    "--report",
    type=PathType(),
    metavar="R.json|R.jsonl|R.html",
    help="Write a report, as JSON, JSON lines or HTML.",
)


def with_verify_options(command: Any) -> Any:  # noqa: ANN401 - a click decorator
    """Give a command the options of verification."""
    for option in reversed(_VERIFY_OPTIONS):
        command = option(command)
    return command


def meant(word: str, known: Iterable[str], before: str = "") -> str:
    """Ask whether something known is meant; an empty text if nothing is like the word."""
    from difflib import get_close_matches

    return next((f"; is '{before}{near}' meant?" for near in get_close_matches(word, known)), "")


def check_together(options: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    for one, other in _CONTRADICTORY:
        if options.get(one) and options.get(other):
            names = (_CALLED.get(option, option.replace("_", "-")) for option in (one, other))
            raise RequestError(f"{' and '.join(f'--{name}' for name in names)} exclude each other")


def check_report(options: dict[str, Any], models: Sequence[Path]) -> None:
    """Refuse a report that cannot be written, or would overwrite what is used."""
    from bnfold.reports.report_file import check_report_path

    inputs = options["inputs"]
    check_report_path(options["report"], models if inputs is None else [*models, inputs])


def verify_options(options: dict[str, Any]) -> "VerifyOptions":
    """Return how to verify."""
    from bnfold.verification import VerifyOptions

    chosen = {
        "providers": tuple(options["providers"]),
        "inputs": options["inputs"],
        "shapes": _shapes(options["shapes"]),
        "thorough": options["thorough"],
        "seed": options["seed"],
        "time": options["time"],
        "allow_narrowed": options.get("allow_narrowed", False),
        "match_outputs_by_name": options.get("match_outputs_by_name", False),
    }
    if options["timeout"] is not None:
        chosen["timeout"] = options["timeout"]
    return VerifyOptions(**chosen)


def statistics_options(options: dict[str, Any]) -> "StatisticsOptions | None":
    """Return where statistics come from; None to leave them as they are."""
    only_training = options["estimate"] == "training"
    if options["data"] is None and (only_training or options["batch_size"] is not None):
        raise RequestError("--estimate and --batch-size need --estimate-statistics")
    if options["data"] is None and not options["freeze_training"]:
        return None
    from bnfold.statistics.options import StatisticsOptions

    return StatisticsOptions(options["data"], only_training, options["batch_size"])


def _shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in map(_shape, texts):
        if name in shapes:
            raise RequestError(f"--shape {name}=…: there are two; one is compared at a time")
        shapes[name] = shape
    return shapes


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, dims = text.rpartition("=")
    try:
        shape = tuple(int(dim) for dim in dims.replace("x", ",").split(",")) if dims else ()
    except ValueError:
        shape = (-1,)
    if not equals or not name or any(dim < 0 for dim in shape):
        raise RequestError(f"--shape {text}: write it as NAME=1,3,224,224")
    return name, shape
