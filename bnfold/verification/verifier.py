"""Verifying a candidate against an original: the files, then what they compute."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import onnx

from bnfold.files.given import as_file
from bnfold.files.scratch import scratch_folder
from bnfold.files.walk import node_count
from bnfold.processes.worker import ChildDiedError, Worker
from bnfold.region import Region
from bnfold.verification.arrays import write
from bnfold.verification.comparison import OutputComparison, OutputVerdict, decode
from bnfold.verification.conclude import conclude
from bnfold.verification.gain import Executed, Times, Timing
from bnfold.verification.operators.demands import Shape
from bnfold.verification.options import VerifyOptions, enough_time
from bnfold.verification.proof.original import Original
from bnfold.verification.proof.prove import Proof, prove
from bnfold.verification.runs.ahead import CHILD
from bnfold.verification.runs.providers import short_name
from bnfold.verification.verdict import ProbeVerdict, ProviderReport, ProviderState, Verification

_NO_OPTIONS = VerifyOptions()


class Verifier:
    """Compares candidates with one original.

    A context manager. Entering it starts the child process, which runs the original while the
    caller is still making the candidate.
    """

    def __init__(
        self,
        original: Path,
        options: VerifyOptions = _NO_OPTIONS,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Name the original; nothing is started yet. `step` is called with what is being done."""
        self._original = Original(original)
        self._step = step
        self._options = options
        self._worker: Worker | None = None
        self._awaiting_original = True
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start running the original.

        Raises:
            RequestError: There is no such file, or it may not be read.
            ModelError: It is not an ONNX model.
        """
        with contextlib.ExitStack() as stack:
            model = stack.enter_context(self._original).model
            seconds = self._options.timeout
            if seconds is None:
                seconds = enough_time(model.size, node_count(model.proto))
            options = replace(self._options, timeout=seconds)
            given = options.arrays
            folder = stack.enter_context(scratch_folder())
            self._worker = Worker(CHILD, seconds, self._step)
            stack.callback(self._worker.close)
            plain = (options if given is None else replace(options, inputs=None)).to_dict()
            self._worker.send(
                "original", path=str(self._original.path.absolute()), options=plain,
                folder=str(folder), arrays=None if given is None else write(given, folder),
            )  # fmt: skip
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End the child process."""
        self._worker = None
        self._exits.close()

    def look_ahead(self) -> None:
        """Begin with what the proof needs of the original alone, while a candidate is written."""
        self._original.look_ahead()

    def verify(self, candidate: Path, regions: Sequence[Region] = ()) -> Verification:
        """Verify the model file `candidate`.

        Args:
            candidate: The saved model.
            regions: Where it is said to differ from the original. With regions, every
                difference elsewhere is a failure; without, they are sought by tensor names.

        Raises:
            RequestError: The inputs or providers that were asked for are not usable at all.
            ModelError: One of the files is not an ONNX model.
        """
        if self._worker is None:
            raise RuntimeError("a Verifier is a context manager: use it in a with statement")
        self._worker.send("candidate", path=str(candidate.absolute()))
        proof = self._proof(candidate, regions)
        providers: tuple[ProviderReport, ...] = ()
        crash, blameless = None, False
        fed: tuple[Mapping[str, tuple[int, ...]], ...] = ()
        try:
            providers, fed = self._provider_reports(self._worker)
            if any(report.outputs for report in providers):
                proof = self._surer(self._worker, candidate, regions, proof)
            if all(
                report.verdict is OutputVerdict.AGREES for report in providers if report.outputs
            ):
                proof = self._shown(self._worker, candidate, proof)
        except ChildDiedError as died:
            crash = f"the ONNX Runtime process {died}"
            blameless = self._awaiting_original
        layers = self._layers(self._worker, candidate, proof, providers)
        found = conclude(
            proof, providers, crash=crash, blameless=blameless, layers=layers,
            options=self._options, strict=bool(regions), fed=fed,
        )  # fmt: skip
        if not found.verdict.ok or crash or self._options.time == 0:
            return found
        return replace(found, providers=self._timed(self._worker, candidate, found.providers))

    def _timed(
        self, worker: Worker, candidate: Path, providers: Sequence[ProviderReport]
    ) -> tuple[ProviderReport, ...]:
        """Add how long runs take; now that all else is done, nothing goes on beside them."""
        if not any(report.outputs for report in providers):
            return tuple(providers)
        worker.send("times", path=str(candidate.absolute()))
        try:
            answered = worker.answer()["times"]
        except ChildDiedError:  # it is a help, and the verdict stands without
            return tuple(providers)
        times = {short_name(answer["provider"]): answer["levels"] for answer in answered}
        return tuple(_with_times(report, times.get(report.name, {})) for report in providers)

    def _proof(
        self, candidate: Path, regions: Sequence[Region], shapes: Mapping[str, Shape] | None = None
    ) -> Proof:
        return prove(
            self._original, candidate, regions, seed=self._options.seed, shapes=shapes,
            options=self._options, step=self._step,
        )  # fmt: skip

    def _provider_reports(
        self, worker: Worker
    ) -> tuple[tuple[ProviderReport, ...], tuple[Mapping[str, tuple[int, ...]], ...]]:
        """Return what happened on each provider, and the shapes of the inputs of every run."""
        if self._awaiting_original:
            worker.answer()
            self._awaiting_original = False
        answer = worker.answer()
        fed = ({name: tuple(shape) for name, shape in each.items()} for each in answer["fed"])
        return tuple(map(_provider_report, answer["providers"])), tuple(fed)

    def _surer(
        self, worker: Worker, candidate: Path, regions: Sequence[Region], proof: Proof
    ) -> Proof:
        """Repeat a proof with the shapes that tensors of the original have when it runs.

        A probe makes up shapes where the file tells none. Some folds are only right for the
        shapes that really occur: behind a Reshape to a constant shape, for one. What such a probe
        holds may lead to another that needs shapes.
        """
        asked: dict[str, None] = {}
        shapes: list[dict[str, tuple[int, ...]]] = []
        while unsure := [name for name in proof.unsure if name not in asked]:
            asked |= dict.fromkeys(unsure)
            worker.send("shapes", names=unsure)
            answer = worker.answer()["shapes"]
            seen = [{name: tuple(shape) for name, shape in each.items()} for each in answer]
            shapes = [a | b for a, b in zip(shapes or [{}] * len(seen), seen, strict=True)]
            before = proof
            for known in shapes:  # what is not proved for one feed is not proved
                proof = self._proof(candidate, regions, known)
                if not proof.structure.proved:
                    break
            if proof.structure.proved:
                return proof
            if _held(proof) <= _held(before):
                break
        return proof

    def _shown(self, worker: Worker, candidate: Path, proof: Proof) -> Proof:
        """Hold against a candidate what it bounds or chooses otherwise, and no run has shown."""
        if proof.structure.proved or proof.broken or not proof.unshown:
            return proof
        points = [
            (each.of_candidate, *each.point) for each in proof.unshown if each.point is not None
        ]
        worker.send("crossed", path=str(candidate.absolute()), points=points)
        crossed = iter(worker.answer()["crossed"])
        doubtful = [
            each.difference for each in proof.unshown if each.point is None or not next(crossed)
        ]
        if not doubtful:
            return proof
        return replace(proof, broken=str(doubtful[0]), differences=(*proof.differences, *doubtful))

    def _layers(
        self,
        worker: Worker,
        candidate: Path,
        proof: Proof,
        providers: Sequence[ProviderReport],
    ) -> tuple[OutputComparison, ...]:
        """Compare the tensors inside, where it was asked for or something is wrong.

        Where the proof names the first difference there is nothing to search for.
        """
        wrong = [r for r in providers if r.verdict is OutputVerdict.DIFFERS and r.outputs]
        ran = [r for r in providers if r.outputs]
        if self._options.thorough and ran:
            report = ran[0]
        elif wrong and proof.first_difference is None:
            report = wrong[0]
        else:
            return ()
        worker.send(
            "layers", path=str(candidate.absolute()), names=list(proof.taps), provider=report.name,
            everything=self._options.thorough,
        )  # fmt: skip
        with contextlib.suppress(ChildDiedError):  # it is a help, and the verdict stands without
            return tuple(decode(o) for o in worker.answer()["layers"])
        return ()


def _held(proof: Proof) -> int:
    return sum(probe.verdict is ProbeVerdict.HELD for probe in proof.probes)


def _with_times(report: ProviderReport, levels: dict[str, Any]) -> ProviderReport:
    timings = {
        level: Timing(each["runs"], Times(**each["before"]), Times(**each["after"]))
        for level, each in levels.items()
    }
    executed = (replace(each, timing=timings.get(each.level)) for each in report.executed)
    return replace(report, executed=tuple(executed))


def _provider_report(data: dict[str, Any]) -> ProviderReport:
    return ProviderReport(
        short_name(data["provider"]),
        ProviderState(data["state"]),
        data["reason"],
        data["nodes"],
        data["linear_nodes"],
        tuple(decode(output) for output in data["outputs"]),
        data["failure"],
        tuple(Executed(**each) for each in data["executed"]),
    )


def verify(
    original: Path | onnx.ModelProto,
    candidate: Path | onnx.ModelProto,
    *,
    regions: Sequence[Region] = (),
    options: VerifyOptions = _NO_OPTIONS,
    step: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Verify that `candidate` computes what `original` computes, but for rounding.

    Args:
        original: A model or the path to one.
        candidate: Another, made by anyone.
        regions: Where it is said to differ from the original; see `Verifier.verify`.
        options: How to verify.
        step: Called with a text when each step begins.

    Raises:
        RequestError: The inputs or providers that were asked for are not usable at all.
        ModelError: One of the files is not an ONNX model.
        TypeError: `options` are no `VerifyOptions`.
    """
    if not isinstance(options, VerifyOptions):
        raise TypeError(f"options takes VerifyOptions, not {options!r}")
    with (
        _as_file(original, "the original") as first,
        _as_file(candidate, "the candidate") as second,
        Verifier(first, options, step) as verifier,
    ):
        return verifier.verify(second, regions)


def _as_file(model: Path | onnx.ModelProto, called: str) -> contextlib.AbstractContextManager[Path]:
    return contextlib.nullcontext(model) if isinstance(model, Path) else as_file(model, called)
