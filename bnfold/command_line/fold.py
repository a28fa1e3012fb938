"""`bnfold MODEL...`: folding."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bnfold.command_line.collecting import resume_collecting
from bnfold.command_line.failing import one_line_errors
from bnfold.command_line.options import (
    COLOR,
    EXIT_CODES,
    REPORT,
    Command,
    PathType,
    WholeNumber,
    check_together,
    meant,
    with_verify_options,
)
from bnfold.errors import RequestError
from bnfold.processes.signals import interrupts_held_back
from bnfold.version import __version__

_FURTHER = {
    "bnfold verify ORIGINAL CANDIDATE": "Do two models compute the same?",
    "bnfold ops": "The operators that bnfold knows.",
    "bnfold explain CODE": "What a reason means, and what to do.",
    "bnfold completion SHELL": "Completion for bash, zsh and fish.",
}


@click.command(
    name="bnfold",
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    lists={
        "Further commands": _FURTHER,
        "Exit codes": {str(code): says for code, says in EXIT_CODES.items()},
    },
    epilog="On 1 to 5 the model is not written. Of several models the highest code counts.",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=PathType(or_pipe=True))
@click.option(
    "-o",
    "--output",
    type=PathType(or_pipe=True),
    metavar="OUT",
    help="Write the folded model here. [default: net.folded.onnx for net.onnx]",
)
@click.option(
    "-d",
    "--directory",
    type=PathType(),
    metavar="DIR",
    help="Write the folded models into this folder, under their own names; it is made if need be.",
)
@click.option(
    "--in-place", is_flag=True, help="Replace the model by the folded one, links to it once."
)
@click.option(
    "--check", is_flag=True, help="Say what would be folded; write no model, verify nothing."
)
@click.option(
    "--explain",
    metavar="NODE",
    help="With --check: say what was tried for a node, named by its name or output, step by step.",
)
@click.option(
    "--max-kept",
    type=WholeNumber(min=0),
    metavar="N",
    help="Exit with 5, and write nothing, if more than N batch normalizations remain.",
)
@REPORT
@with_verify_options
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
    help="Fold into a composite ('bnfold ops' lists them; 'all'), in capitals or not, for runtimes"
    " that know it not.",
)
@click.option(
    "--keep-overridable",
    is_flag=True,
    help="Leave alone initializers that are also graph inputs (IR version 4 on).",
)
@click.option(
    "--for-quantization",
    is_flag=True,
    help="Leave what would take more than 3 dB from a weight as int8, with a scale per channel.",
)
@click.option(
    "--per-tensor",
    is_flag=True,
    help="With --for-quantization: with one scale for the whole weight.",
)
@click.option(
    "--lift-constants",
    is_flag=True,
    help="Write the constants that nodes hold as initializers; some runtimes read only these.",
)
@click.option(
    "--estimate-statistics",
    "data",
    type=PathType(),
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
    type=WholeNumber(min=1),
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
    type=WholeNumber(min=1),
    metavar="N",
    help="Fold so many models at a time.  [default: 1]",
)
@click.option(
    "--dask",
    metavar="ADDRESS|local",
    help="Fold on the Dask cluster whose scheduler is there, or on one that is started here.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Make no model again that is there, whole, and made from this source with these options.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print every fold and every node kept.")
@COLOR
@click.version_option(__version__, "-V", "--version", prog_name="bnfold")
def fold(models: Sequence[Path], **options: Any) -> None:  # noqa: ANN401 - click's keywords
    """Fold batch normalization, and other per-channel arithmetic, of ONNX models.

    The folded model is verified on ONNX Runtime before it is written. As MODEL or OUT, '-' is a
    pipe.
    """
    with one_line_errors(verbose=options["verbose"]):
        check_together(options)
        _check_names(models)
        with interrupts_held_back():
            if _will_verify_here(models, options):
                from bnfold.verification.runs.ahead import start_child_ahead

                start_child_ahead()
            from bnfold.command_line.running import run

        if not _is_alone(models):
            resume_collecting()
        sys.exit(run(models, options))


def _is_alone(models: Sequence[Path]) -> bool:
    """Tell whether this process folds one model and ends, so that nobody needs what is garbage.

    Measured: to look for it takes 0.1 s behind a network of 3,000 nodes.
    """
    return len(models) == 1 and models[0].is_file()


def _will_verify_here(models: Sequence[Path], options: dict[str, Any]) -> bool:
    """Tell whether this process verifies, and not one that does the work for it."""
    elsewhere = options["jobs"] or options["dask"]
    unless = options["no_verify"] or options["check"]
    return _is_alone(models) and not (elsewhere or unless)


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
    hint = f"; is '{_HABITS[word]}' meant?" if word in _HABITS else ""
    hint = hint or meant(word, [words.split()[1] for words in _FURTHER], "bnfold ")
    if hint:
        raise RequestError(f"{word}: no such file{hint}")
