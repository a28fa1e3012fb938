"""The command line: a thin layer over the library, and the only place that prints.

`bnfold MODEL...` folds; `bnfold verify` and `bnfold ops` are words of their own. Only click is
imported until there is something to do, so that `--help` answers at once.
"""

import atexit
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bnfold.command_line.foreign import printable_lines
from bnfold.errors import BnfoldError, RequestError, one_line
from bnfold.processes.signals import interrupts_held_back
from bnfold.version import __version__

if TYPE_CHECKING:
    from bnfold.command_line.batch import Outcome
    from bnfold.statistics.options import StatisticsOptions
    from bnfold.verification import VerifyOptions

_CONTRADICTORY = (
    ("quiet", "verbose"),
    ("inputs", "shapes"),
    ("data", "freeze_training"),
    ("data", "share_data"),
    ("freeze_training", "share_data"),
    *(("no_verify", other) for other in ("thorough", "providers", "inputs", "shapes", "time")),
)
_CALLED = {"providers": "provider", "shapes": "shape", "data": "estimate-statistics"}
"""Options that are called something else on the command line."""

_BAD_REQUEST = 2
_INTERRUPTED = 130  # as a shell says that SIGINT ended a process
_PIPE_CLOSED = 141  # and SIGPIPE


class _Path(click.Path):
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
        """Return the path; an empty one, as of a variable that is not set, is none."""
        if not value:
            self.fail("the name is empty", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        is_file = self._or_pipe and str(path) == "-" and value != "-"
        return Path.cwd() / path if is_file else path


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
        type=_Path(),
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
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Time limit for loading a model and running it once.  [default: 60, and more for "
        "large models]",
    ),
    click.option(
        "--time",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Run both models in turn for so long to time them.  [default: 1 at most]",
    ),
)


def _choose_color(ctx: click.Context, _: click.Parameter, chosen: str) -> None:
    """Let click write colours or strip them; by default it strips them where no terminal is.

    `NO_COLOR` is the convention of no-color.org: any text but an empty one means no colours.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    ctx.color = {"always": True, "never": False}.get(chosen, False if plain else None)


_COLOR = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    callback=_choose_color,
    expose_value=False,
    help="Write colours; auto: on a terminal, unless NO_COLOR is set.",
)


def _with_verify_options(command: Any) -> Any:  # noqa: ANN401 - a click decorator
    for option in reversed(_VERIFY_OPTIONS):
        command = option(command)
    return command


@click.command(
    name="bnfold",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="Also: 'bnfold verify ORIGINAL CANDIDATE' compares any two models; 'bnfold ops' lists "
    "the operators that bnfold knows; 'bnfold explain CODE' says what a reason means.  "
    "Exit codes: 0 done, 1 --check found something to fold, "
    "2 bad request or file, 3 verification failed, 4 a provider that was asked for cannot run, "
    "5 more remain than --max-kept allows; on 1 to 5 the model is not written; "
    "of several the highest code counts.",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=_Path(or_pipe=True))
@click.option(
    "-o",
    "--output",
    type=_Path(or_pipe=True),
    metavar="OUT",
    help="Write the folded model here. [default: net.folded.onnx for net.onnx]",
)
@click.option(
    "-d",
    "--directory",
    type=_Path(),
    metavar="DIR",
    help="Write the folded models into this folder, under their own names.",
)
@click.option("--in-place", is_flag=True, help="Replace the model by the folded one.")
@click.option(
    "--check", is_flag=True, help="Say what would be folded; write no model, verify nothing."
)
@click.option(
    "--max-kept",
    type=click.IntRange(min=0),
    metavar="N",
    help="Exit with 5, and write nothing, if more than N batch normalizations remain.",
)
@click.option(
    "--report",
    type=_Path(),
    metavar="R.json|R.jsonl|R.html",
    help="Write a report, as JSON, JSON lines or HTML.",
)
@_with_verify_options
@click.option("--no-verify", is_flag=True, help="Do not verify the folded model.")
@click.option(
    "--bn-only",
    is_flag=True,
    help="Fold only where a BatchNormalization is among the nodes that go.",
)
@click.option(
    "--no-merge",
    is_flag=True,
    help="Leave branches apart that are added up and could be one operator.",
)
@click.option(
    "--take-apart",
    multiple=True,
    metavar="NAME",
    help="Fold into a composite ('bnfold ops' lists them; 'all') for runtimes that know it not.",
)
@click.option(
    "--keep-overridable",
    is_flag=True,
    help="Leave alone initializers that are also graph inputs (IR version 4 on).",
)
@click.option(
    "--estimate-statistics",
    "data",
    type=_Path(),
    metavar="FILE|DIR",
    help="Estimate the statistics of normalizations from these data first: as for --inputs, "
    "read batch by batch.",
)
@click.option(
    "--estimate",
    type=click.Choice(["all", "training"]),
    default="all",
    show_default=True,
    help="Which statistics to estimate; training: of those in training mode.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Samples of a batch, where the data have more.",
)
@click.option(
    "--freeze-training",
    is_flag=True,
    help="Take the stored statistics of normalizations in training mode as they are.",
)
@click.option(
    "--external-data",
    is_flag=True,
    default=None,
    help="Put the weights into a data file beside the model.",
)
@click.option(
    "--share-data",
    is_flag=True,
    help="Write only what changed; refer to the input's data file for the rest.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Fold so many models at a time.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every fold and every node kept.")
@_COLOR
@click.version_option(__version__, "-V", "--version", prog_name="bnfold")
def fold(models: Sequence[Path], **options: Any) -> None:  # noqa: ANN401 - click's keywords
    """Fold batch normalization, and other per-channel arithmetic, of ONNX models.

    The folded model is verified on ONNX Runtime before it is written. As MODEL or OUT, '-' is a
    pipe.
    """
    with _one_line_errors(verbose=options["verbose"]):
        _check_together(options)
        _check_names(models)
        with interrupts_held_back():
            from bnfold.api import FileOptions
            from bnfold.command_line.batch import run_all
            from bnfold.command_line.progress import progress
            from bnfold.command_line.sources import Request, files_of, find_sources
            from bnfold.command_line.telling import Accounts, Telling
            from bnfold.graph.options import FoldOptions
            from bnfold.reports.report import ReportFile
            from bnfold.rules.composites import checked_names

        _resume_collecting()
        request = Request(
            options["output"],
            options["directory"],
            FileOptions(
                verify=None if options["no_verify"] else _verify_options(options),
                statistics=_statistics_options(options),
                fold=FoldOptions(
                    options["bn_only"],
                    options["keep_overridable"],
                    not options["no_merge"],
                    checked_names(options["take_apart"]),
                ),
                in_place=options["in_place"],
                check=options["check"],
                max_kept=options["max_kept"],
                external_data=options["external_data"],
                share_data=options["share_data"],
                digest=options["report"] is not None,
            ),
        )
        sources = find_sources(models)
        if options["report"] is not None:
            _check_report(options, files_of(sources, request))
        telling = Telling(
            sources.paths,
            options["quiet"],
            options["verbose"],
            options["check"],
            request.writes_to_stdout(sources.paths),
        )
        with progress(quiet=options["quiet"]) as shown:
            several = len(sources.models) > 1
            report = None
            if options["report"] is not None:
                report = ReportFile(options["report"], several=several)
            accounts = Accounts(telling, report, shown)
            try:
                run_all(sources, request, jobs=options["jobs"], step=shown.show, done=accounts.take)
            except KeyboardInterrupt:
                if accounts.outcomes:
                    accounts.close()
                    done = f"{len(accounts.outcomes)} of {len(sources.models)} models were done"
                    _fail(f"interrupted; {done}", _INTERRUPTED)
                raise
        with _saying_what_was_written(accounts.outcomes):
            accounts.close(sources.passed_over)
        sys.exit(max(outcome.exit_code for outcome in accounts.outcomes))


@click.command(name="bnfold verify", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("original", type=_Path())
@click.argument("candidate", type=_Path())
@_with_verify_options
@click.option(
    "--allow-narrowed",
    is_flag=True,
    help="Accept a candidate that is right for fewer shapes than the original takes.",
)
@click.option(
    "--match-outputs-by-name",
    is_flag=True,
    help="Accept inputs and outputs in another order.",
)
@click.option(
    "--report",
    type=_Path(),
    metavar="R.json|R.jsonl|R.html",
    help="Write a report, as JSON, JSON lines or HTML.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every output and every region.")
@_COLOR
def verify(original: Path, candidate: Path, **options: Any) -> None:  # noqa: ANN401
    """Verify that CANDIDATE computes what ORIGINAL computes, whoever made it.

    Exit codes: 0 it does, 2 bad request or file, 3 it does not or nothing shows that it does,
    4 a provider that was asked for cannot run.
    """
    with _one_line_errors(verbose=options["verbose"]):
        _check_together(options)
        with interrupts_held_back():
            from bnfold.api import verify as verify_models
        from bnfold.command_line.progress import progress
        from bnfold.command_line.telling import width
        from bnfold.command_line.text import verification_text
        from bnfold.reports.report import Comparison, FileRecord, write_reports

        _resume_collecting()
        if options["report"] is not None:
            _check_report(options, [original, candidate])
        with progress(quiet=options["quiet"]) as shown:
            shown.show("verifying")
            found = verify_models(
                original, candidate, step=shown.show, options=_verify_options(options)
            )
        comparison = Comparison(
            FileRecord.of(original, digest=True), FileRecord.of(candidate, digest=True), found
        )
        if options["report"] is not None:
            write_reports(options["report"], [comparison])
        if not options["quiet"]:
            failed = bool(comparison.error)
            text = verification_text(found, verbose=options["verbose"], width=width(err=failed))
            click.echo(text, err=failed)
        if comparison.error and (options["quiet"] or found.verdict.ok):
            click.echo(f"bnfold: {one_line(f'{candidate}: {comparison.error}')}", err=True)
        sys.exit(comparison.exit_code)


@click.command(name="bnfold ops", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def ops(*, markdown: bool) -> None:
    """List the operators that bnfold knows, and what it can do with each."""
    with _one_line_errors(verbose=False):
        from bnfold.rules.tables_text import as_markdown, as_text

        click.echo(as_markdown() if markdown else as_text())


@click.command(name="bnfold explain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="Print all explanations as Markdown.")
def explain(code: str | None, *, markdown: bool) -> None:
    """Explain why a node was kept: what CODE means, and what to do about it.

    Without CODE all codes are listed.
    """
    with _one_line_errors(verbose=False):
        from bnfold.reasons import Reason
        from bnfold.remedies import as_markdown, explanation, listing

        if code is None:
            click.echo(as_markdown() if markdown else listing(), nl=not markdown)
            return
        codes = {reason.value: reason for reason in Reason}
        word = code.lower().replace("_", "-")
        if word not in codes:
            raise RequestError(f"{code}: no such reason{_meant(word, codes)}")
        click.echo(explanation(codes[word]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The words after `bnfold`; by default those of the process.
    """
    if arguments is None:
        _pause_collecting()
        # Measured: numpy's idle threads take a third of the time that importing it takes, and
        # bnfold's own products, of which the verification has some, run beside ONNX Runtime.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from bnfold.processes.fork import own_process

        own_process()
    with _one_line_errors(verbose=False):
        try:
            _carry_out(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            if arguments is None:  # what is left to do is to end, and that shall not be disturbed
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                # CPython ends by the signal, whatever the exit code, where the interrupt came while
                # a string was executed, as a data class is defined; the next such string clears it.
                exec("")  # noqa: S102 - nothing is executed


def _carry_out(words: list[str]) -> NoReturn:
    words = words or ["--help"]
    command = {"verify": verify, "ops": ops, "explain": explain}.get(words[0])
    name = "bnfold" if command is None else f"bnfold {words[0]}"
    try:
        if command is None:
            code = fold.main(words, prog_name=name, standalone_mode=False)
        else:
            code = command.main(words[1:], prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        _fail(f"{error.format_message().rstrip('.')} ({name} --help lists the options)")
    except click.Abort:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(code)


def _pause_collecting() -> None:
    """Let no garbage be sought in what is imported, neither now nor when the process ends.

    Measured: that takes a quarter of the time that the imports take.
    """
    gc.disable()
    atexit.register(gc.freeze)


def _resume_collecting() -> None:
    """Seek garbage again, but not in what is there by now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _check_together(options: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    for one, other in _CONTRADICTORY:
        if options.get(one) and options.get(other):
            names = (_CALLED.get(option, option.replace("_", "-")) for option in (one, other))
            raise RequestError(f"{' and '.join(f'--{name}' for name in names)} exclude each other")


_HABITS = {
    "check": "bnfold MODEL --check",
    "fold": "bnfold MODEL",
    "help": "bnfold --help",
    "version": "bnfold --version",
}
"""Words that stand for a command elsewhere, and what to type here."""


def _check_names(models: Sequence[Path]) -> None:
    """Refuse a word that was meant for a command where a model is expected."""
    word = str(models[0])
    if not word.isalpha() or models[0].exists():
        return
    meant = f"; is '{_HABITS[word]}' meant?" if word in _HABITS else ""
    meant = meant or _meant(word, ["verify", "ops", "explain"], "bnfold ")
    if meant:
        raise RequestError(f"{word}: no such file{meant}")


def _meant(word: str, known: Iterable[str], before: str = "") -> str:
    """Ask whether something known is meant; an empty text if nothing is like the word."""
    from difflib import get_close_matches

    return next((f"; is '{before}{meant}' meant?" for meant in get_close_matches(word, known)), "")


def _check_report(options: dict[str, Any], models: Sequence[Path]) -> None:
    from bnfold.reports.report import check_report_path

    inputs = options["inputs"]
    check_report_path(options["report"], models if inputs is None else [*models, inputs])


@contextmanager
def _saying_what_was_written(results: "Sequence[Outcome]") -> Iterator[None]:
    """Add to what goes wrong after the work is done that it is done."""
    written = any(result.report is not None and result.report.written for result in results)
    added = "; the model was written" if written else ""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RequestError(f"{_refused_by_system(error)}{added}") from error
    except BnfoldError as error:
        raise RequestError(f"{error}{added}") from error


def _verify_options(options: dict[str, Any]) -> "VerifyOptions":
    from bnfold.verification import VerifyOptions

    chosen = {
        "providers": tuple(options["providers"]),
        "inputs": options["inputs"],
        "shapes": dict(_shape(text) for text in options["shapes"]),
        "thorough": options["thorough"],
        "seed": options["seed"],
        "time": options["time"],
        "allow_narrowed": options.get("allow_narrowed", False),
        "match_outputs_by_name": options.get("match_outputs_by_name", False),
    }
    if options["timeout"] is not None:
        chosen["timeout"] = options["timeout"]
    return VerifyOptions(**chosen)


def _statistics_options(options: dict[str, Any]) -> "StatisticsOptions | None":
    from bnfold.statistics.options import StatisticsOptions

    only_training = options["estimate"] == "training"
    if options["data"] is not None:
        return StatisticsOptions(options["data"], only_training, options["batch_size"])
    if only_training or options["batch_size"] is not None:
        raise RequestError("--estimate and --batch-size need --estimate-statistics")
    return StatisticsOptions() if options["freeze_training"] else None


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, dims = text.rpartition("=")
    try:
        shape = tuple(int(dim) for dim in dims.replace("x", ",").split(",") if dim.strip())
    except ValueError:
        shape = (-1,)
    if not equals or not name or any(dim < 0 for dim in shape):
        raise RequestError(f"--shape {text}: write it as NAME=1,3,224,224")
    return name, shape


@contextmanager
def _one_line_errors(*, verbose: bool) -> Iterator[None]:
    """Say in one line what is wrong, and exit with 2."""
    try:
        yield
    except BnfoldError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        _let_go_of(sys.stdout)
        sys.exit(_PIPE_CLOSED)
    except MemoryError:
        _fail("there is not enough memory")
    except OSError as error:
        _fail(_refused_by_system(error))
    except Exception as error:  # noqa: BLE001 - nobody should have to read a traceback
        if verbose:
            click.echo(printable_lines(traceback.format_exc()), err=True)
        _fail(f"this is a bug in bnfold, please report it: {error!r} (-v shows where)")


def _refused_by_system(error: OSError) -> str:
    return f"{error.filename or 'the output'}: {error.strerror or error}"


def _fail(message: str, code: int = _BAD_REQUEST) -> NoReturn:
    try:
        click.echo(f"bnfold: {one_line(message)}", err=True)
    except OSError:  # there is nobody to tell; the exit code does
        _let_go_of(sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        _let_go_of(sys.stdout)
    sys.exit(code)


def _let_go_of(stream: Any) -> None:  # noqa: ANN401
    """Let what is buffered go nowhere, or it would fail once more when the interpreter ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
