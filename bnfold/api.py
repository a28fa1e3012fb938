"""The Python interface for files: where they are and what they are called; `job` does the work."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from bnfold.errors import ModelError, RequestError
from bnfold.files import tidy
from bnfold.files.given import Given, as_file, model_or_path
from bnfold.files.objects import require_writable, upload
from bnfold.files.readers import data_files
from bnfold.files.remote import called, url_of
from bnfold.files.remote_models import Place, fetch_whole, local_copy, temporary_folder
from bnfold.files.scratch import scratch_folder
from bnfold.job import Job, without_collection
from bnfold.options import FileOptions, file_options
from bnfold.paths import as_path, calling, default_target, errors_calling, real_path
from bnfold.region import Region
from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
from bnfold.reports.report import Report
from bnfold.units import byte_size
from bnfold.verification import VerifyOptions

if TYPE_CHECKING:
    from bnfold.statistics.options import StatisticsOptions
    from bnfold.verification import Verification

_VERIFY = VerifyOptions()

_HELD = "a model in memory"
"""What reports and errors call a source that is no file."""


def fold_file(  # noqa: PLR0913 - each is an option of the command line
    source: Given,
    target: str | Path | None = None,
    *,
    verify: VerifyOptions | None = _VERIFY,
    in_place: bool = False,
    check: bool = False,
    max_kept: int | None = None,
    bn_only: bool = False,
    keep_overridable: bool = False,
    statistics: "StatisticsOptions | None" = None,
    merge: bool = True,
    take_apart: Collection[str] = (),
    lift_constants: bool = False,
    external_data: bool | None = None,
    share_data: bool = False,
    digest: bool = True,
    explain: str | None = None,
    for_quantization: bool = False,
    per_tensor: bool = False,
    int8: bool | None = None,
) -> Report:
    """Fold a model file, verify the result, and write it.

    Nothing is written unless the verification passes; what stood at the target stays there.

    Args:
        source: The path to a model, or a model in memory.
        target: Where the folded model goes; by default `net.folded.onnx` beside `net.onnx`. One in
            memory needs a target, unless it is only checked.
        verify: Options of the verification; None to write the model without verification.
        in_place: Allow the target to be the source.
        check: Only report what would be folded; write nothing.
        max_kept: Refuse to write a model in which more batch normalizations remain than this;
            None for no limit.
        bn_only: Fold only runs of nodes that contain a BatchNormalization.
        keep_overridable: Do not change initializers that are also listed as graph inputs: from IR
            version 4 on, who runs the model may replace them.
        statistics: From which data to estimate the statistics of normalizations before folding, or
            that those in training mode take the stored ones; None to leave all as they are.
        merge: Merge branches that read one tensor and are added up, as in RepVGG, into one linear
            operator.
        take_apart: Names of composites (`bnfold ops` lists them; `all` for any) whose nodes may
            be folded, although some runtimes then no longer fuse them into one operator.
        lift_constants: Write the constants that nodes hold as initializers, for toolchains that
            do not read them in every form.
        external_data: Store large tensors in a data file beside the target; by default, if
            the source does so or the model is larger than 2 GB.
        share_data: Write only what changed and refer to the source's data files for the rest.
        digest: Put the SHA-256 of both files into the report.
        explain: The name of a node, or of one of its outputs. With `check`, the report's
            `explained` says what was tried to fold it, and where each attempt ended.
        for_quantization: Do not make folds that lower the signal-to-quantization-noise ratio of
            a weight by more than 3 dB, when it is stored as int8 with one scale for each output
            channel.
        per_tensor: With `for_quantization`: measure with one scale for the whole weight instead.
        int8: Report in `weights` how folding changes the range of each channel of a weight, and
            what the weight loses as int8; by default, if the folded model is verified.

    Returns:
        The report of what was folded, kept, verified and written.

    Raises:
        RequestError: The source or target cannot be used, or there is no node named `explain`.
        ModelError: The source is not an ONNX model that bnfold can read.
        VerificationError: The folded model does not compute what the original computes; its
            `report` says what was found. Nothing was written.
        ProviderError: A provider that was asked for by name cannot run. Nothing was written.
        TooManyKeptError: More than `max_kept` batch normalizations remain. Nothing was written.
        TypeError: `source` is neither a model nor a path, or options are of another type.
    """
    how = file_options(
        verify=verify,
        in_place=in_place,
        check=check,
        max_kept=max_kept,
        bn_only=bn_only,
        keep_overridable=keep_overridable,
        statistics=statistics,
        merge=merge,
        take_apart=take_apart,
        external_data=external_data,
        share_data=share_data,
        digest=digest,
        explain=explain,
        lift_constants=lift_constants,
        for_quantization=for_quantization,
        per_tensor=per_tensor,
        int8=int8,
    )
    given, aim = model_or_path(source), None if target is None else as_path(target)
    return fold_with(given, aim, how) if isinstance(given, Path) else _fold_held(given, aim, how)


def _fold_held(model: onnx.ModelProto, target: Path | None, how: FileOptions) -> Report:
    """Fold a model in memory, which lies in a temporary folder meanwhile."""
    if how.in_place or how.share_data:
        raise RequestError("in_place and share_data are for files, and this is a model in memory")
    if target is None and not how.check:
        raise RequestError(
            "a model in memory has no file that the folded one could go beside: name a target, or "
            "use bnfold.fold, which returns a model"
        )
    with as_file(model, _HELD) as path:
        files = {str(path): _HELD}
        with _calling(files):
            return fold_with(path, target, how).calling(files)


def fold_with(
    source: Path,
    target: Path | None,
    how: FileOptions,
    step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Fold a model file; see `fold_file`. `step` is called with a text when each step begins."""
    if how.statistics is not None and how.share_data:
        raise RequestError(
            "new statistics and shared data exclude each other: a model that refers to the data "
            "files of another is folded with the statistics of that other"
        )
    if how.explain is not None and not how.check:
        raise RequestError("a node is explained where nothing is written: --explain needs --check")
    if url_of(source) or (target is not None and url_of(target)):
        return _fold_remote(source, target, how, step)
    named = target is not None or how.in_place
    job = Job(source, _target(source, target, in_place=how.in_place), how, step, named=named)
    _tidy_around(job.source, job.target)
    with without_collection(), _naming(job.source, job.target):
        return job.check() if how.check else job.fold()


def _fold_remote(
    source: Path, target: Path | None, how: FileOptions, step: Callable[[str], None]
) -> Report:
    """Fold a file that is read from or written to an object store, in a temporary folder."""
    chosen = source if how.in_place else target or default_target(source)
    if called(chosen) == called(source) and not how.in_place:
        raise RequestError(_same(called(chosen)))
    with scratch_folder() as folder, ExitStack() as stack:
        url, aim, files = url_of(chosen), chosen, dict[str, str]()
        if url:
            if not how.check:
                require_writable(url)
            place = Place(chosen.name) if how.check else Place.of(chosen, folder / "standing")
            aim, files = stack.enter_context(place.within(url, folder / "target"))
        with local_copy(source, folder / "source", step) as copy:
            files |= {str(copy): called(source), str(aim): called(chosen)}
            with _calling(files):
                if how.verify is not None and not how.check:
                    fetch_whole(copy)
                report = fold_with(copy, aim, replace(how, in_place=False), step)
        if report.written and url:
            data = [aim.parent / name for name in sorted(data_files(aim))]
            step(f"uploading: {byte_size(sum(file.stat().st_size for file in (aim, *data)))}")
            upload(aim, url, data)
            report = replace(report, left_files=place.left)
        return report.calling(files)


@contextmanager
def _calling(files: Mapping[str, str]) -> Iterator[None]:
    """Call files in errors and in their reports as the user calls them."""
    try:
        with errors_calling(files):
            yield
    except (ProviderError, VerificationError, TooManyKeptError) as error:
        raise type(error)(calling(str(error), files), error.report.calling(files)) from error


def verify(
    original: Given,
    candidate: Given,
    *,
    regions: Sequence[Region] = (),
    options: VerifyOptions = _VERIFY,
    step: Callable[[str], None] = lambda _: None,
) -> "Verification":
    """Verify that `candidate` computes what `original` computes, but for rounding.

    Args:
        original: The model that is right by definition, or the path to it.
        candidate: The model to compare with it, or its path; made by any tool.
        regions: Where the two are said to differ, as a `Folding` lists it; without regions, the
            differences are found by tensor names.
        options: How to verify.
        step: Called with a text when each step begins.

    Returns:
        The verdict, with the evidence for it.

    Raises:
        RequestError: The inputs or providers that `options` names cannot be used.
        ModelError: One of the two is not an ONNX model.
        TypeError: One is neither a model nor a path, or `options` are no `VerifyOptions`.
    """
    from bnfold.verification import verify as verify_models

    first, second = model_or_path(original), model_or_path(candidate)
    with temporary_folder(first, second) as folder, ExitStack() as stack:
        models: list[Path | onnx.ModelProto] = []
        files: dict[str, str] = {}
        for number, model in enumerate((first, second)):
            if isinstance(model, Path):
                copy = stack.enter_context(local_copy(model, folder / str(number), step))
                files[str(copy)] = called(model)
                with _calling(files):
                    fetch_whole(copy)
                models.append(copy)
            else:
                models.append(model)
        _tidy_around(*(m for m in models if isinstance(m, Path)))
        with _calling(files):
            return verify_models(*models, regions=regions, options=options, step=step)


def _tidy_around(*files: Path) -> None:
    """Remove temporary files that killed runs have left in the folders of these files."""
    for folder in {parent for file in files for parent in (file.parent, real_path(file).parent)}:
        tidy(folder)


def _target(source: Path, target: Path | None, *, in_place: bool) -> Path:
    if in_place:
        if target is not None:
            raise RequestError("a target and in-place exclude each other")
        return source
    chosen = default_target(source) if target is None else target
    if source.exists() and chosen.exists() and chosen.samefile(source):
        raise RequestError(_same(str(chosen)))
    return chosen


def _same(target: str) -> str:
    return f"{target}: this is the input; in_place (--in-place) replaces it"


@contextmanager
def _naming(source: Path, target: Path) -> Iterator[None]:
    """Begin the text of an error with the source, so that it says which of many models failed."""
    try:
        yield
    except (ModelError, RequestError) as error:
        if str(source) in str(error) or str(target) in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error
