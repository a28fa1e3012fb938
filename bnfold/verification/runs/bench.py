"""Running the original and the candidate side by side, inside the child process.

How far the original at ORT_DISABLE_ALL and at ORT_ENABLE_ALL are apart is its own rounding
noise, by which the candidate is judged at both levels (`compare`). A candidate beyond that is
not condemned yet: the noise is measured again, with all the original's weights and inputs moved
by one ulp, which tells more where ONNX Runtime changes little between the levels; and several times
more where the candidate has NaN or infinity elsewhere, which a change of rounding does or does not.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.files import opened
from bnfold.verification.comparison import OutputComparison, Outputs, OutputVerdict, encode
from bnfold.verification.gain import Timing
from bnfold.verification.operators.node import EvaluationError
from bnfold.verification.options import VerifyOptions
from bnfold.verification.runs.baseline import (
    MANY_JITTERS,
    Baseline,
    Originals,
    stacked,
    without_outputs,
    without_session,
)
from bnfold.verification.runs.compare import (
    Rule,
    compare_all,
    compare_with_truth,
    is_told_broken,
    with_evidence_elsewhere,
    without_evidence,
)
from bnfold.verification.runs.decisions import judge_flips
from bnfold.verification.runs.float64 import true_outputs
from bnfold.verification.runs.inputs import shape_of
from bnfold.verification.runs.layers import compare_layers, is_crossed, shapes_inside
from bnfold.verification.runs.loadable import runnable
from bnfold.verification.runs.providers import caught_stderr, resolve, short_name
from bnfold.verification.runs.sessions import (
    DISABLE_ALL,
    ENABLE_ALL,
    CannotRunError,
    Run,
    load,
)
from bnfold.verification.runs.timing import DEFAULT_BUDGET, confirmed, timed_in_turn

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ROUNDS = 4
"""Runs of each model without which timing is not begun: one to warm up, three that count."""

_EXPECTED = Rule(hopeless="the original itself is that far from the output that was expected")


class Bench:
    """The original and its outputs, and the candidates that are compared with it."""

    def __init__(
        self, path: Path, options: VerifyOptions, announce: Callable[[str], None], folder: Path
    ) -> None:
        """Prepare; `announce` is called before every step that may take long."""
        self.path = path
        self.options = options
        self.announce = announce
        self.originals = Originals(path, options, announce, folder)
        self._candidate: dict[tuple[str, str], Run] = {}
        self._truth: Outputs | None = None

    def start(self) -> dict[str, Any]:
        """Run the original; see `Originals.start`."""
        self.originals.start()
        return {"feeds": len(self.originals.feeds)}

    def compare(self, candidate: Path) -> dict[str, Any]:
        """Run `candidate` wherever the original ran, and compare."""
        baselines = self.originals.baselines
        return {
            "providers": [self._compared(candidate, baseline) for baseline in baselines],
            "fed": [
                {name: shape_of(value) for name, value in feed.items()}
                for feed in self.originals.feeds
            ],
        }

    def _compared(self, candidate: Path, baseline: Baseline) -> dict[str, Any]:
        report: dict[str, Any] = {
            "provider": baseline.provider,
            "state": baseline.state,
            "reason": baseline.reason,
            "nodes": baseline.nodes,
            "linear_nodes": baseline.linear_nodes,
            "failure": "",
            "outputs": [],
            "executed": [],
        }
        if not baseline.runs:
            return report
        try:
            runs = {
                level: self.originals.stacked(self._run(candidate, level, baseline))
                for level in (DISABLE_ALL, ENABLE_ALL)
            }
        except CannotRunError as error:
            report["failure"] = f"the candidate cannot run where the original can: {error}"
            return report
        results = self._results(baseline, runs)
        if any(result.verdict is OutputVerdict.DIFFERS for result in results):
            self.originals.measure_jitter(baseline)
            results = self._results(baseline, runs)
        if any(map(is_told_broken, results)):
            self.originals.measure_jitter(baseline, MANY_JITTERS)
            results = self._results(baseline, runs)
        if self.originals.expected:
            results += self._against_expected(baseline, runs)
        if self.options.thorough:
            results += self._against_truth(baseline, runs)
        results = without_evidence(results, self.originals.random)
        if any(result.verdict is OutputVerdict.DIFFERS for result in results):
            results = self._flips_judged(candidate, baseline, runs, results)
        report["outputs"] = [encode(result) for result in results]
        report["executed"] = [self._executed(baseline, level) for level in runs]
        return report

    def _executed(self, baseline: Baseline, level: str) -> dict[str, Any]:
        before, after = baseline.plain[level], self._candidate[baseline.provider, level]
        return {"level": level, "before": before.executed, "after": after.executed}

    def _run(self, candidate: Path, level: str, baseline: Baseline) -> list[Outputs]:
        run = self.originals.run(candidate, level, baseline.provider, "the candidate", notes=True)
        self._candidate[baseline.provider, level] = without_outputs(run)
        return run.outputs

    def _results(self, baseline: Baseline, runs: Mapping[str, Outputs]) -> list[OutputComparison]:
        results = []
        for level, outputs in runs.items():
            original, variants = baseline.runs[level], baseline.variants(level)
            results += compare_all(level, original, variants, outputs)
        return with_evidence_elsewhere(results, self.originals.labels or [""])

    def _against_expected(
        self, baseline: Baseline, runs: Mapping[str, Outputs]
    ) -> list[OutputComparison]:
        """Compare with the outputs that came with the user's inputs.

        How far the original is from them is the noise; it was another machine's or another
        framework's rounding that made them.
        """
        expected = stacked(self.originals.expected)
        originals = list(baseline.runs.values())
        return [
            result
            for level, outputs in runs.items()
            for result in compare_all(
                f"{level} against the expected", expected, originals, outputs, _EXPECTED
            )
        ]

    def _against_truth(
        self, baseline: Baseline, runs: Mapping[str, Outputs]
    ) -> list[OutputComparison]:
        """Compare the errors against float64; nothing where float64 cannot be had."""
        self.originals.measure_jitter(baseline)
        if self._truth is None:
            self.announce("computing the original in float64")
            try:
                with opened.open_model(self.path) as model:
                    self._truth = self.originals.stacked(
                        [true_outputs(model, feed) for feed in self.originals.feeds]
                    )
            except EvaluationError:
                self._truth = {}
        originals = [*baseline.runs.values(), *baseline.jitters]
        return compare_with_truth(self._truth, originals, runs)

    def _flips_judged(
        self,
        candidate: Path,
        baseline: Baseline,
        runs: Mapping[str, Outputs],
        results: Sequence[OutputComparison],
    ) -> list[OutputComparison]:
        """Look again at differing outputs that lie behind a decision."""
        with opened.open_model(self.path) as model:
            graph = model.proto.graph
        feeds, labels = self.originals.feeds, self.originals.labels or [""]
        if len(feeds) != len(labels):
            return list(results)
        self.announce("judging decisions by their margins")
        return [
            judge_flips(
                result, graph, (self.path, candidate), baseline.provider,
                *next((feed, label) for feed, label in zip(feeds[::-1], labels[::-1], strict=True)
                      if result.name.endswith(label)),
                baseline.runs[result.level], runs[result.level],
            )
            if result.verdict is OutputVerdict.DIFFERS and result.level in runs
            else result
            for result in results
        ]  # fmt: skip

    def times(self, candidate: Path) -> dict[str, Any]:
        """Time the original and the candidate in turn, wherever both ran."""
        ran = [baseline for baseline in self.originals.baselines if baseline.runs]
        chosen = self.options.time
        left = (DEFAULT_BUDGET if chosen is None else chosen) / max(len(ran), 1)
        return {
            "times": [
                {"provider": baseline.provider, "levels": self._times(candidate, baseline, left)}
                for baseline in ran
            ]
        }

    def _times(self, candidate: Path, baseline: Baseline, budget: float) -> dict[str, Any]:
        """Return the timings by level; where there is no time for both, of the deployed one."""
        found, asked = {}, self.options.time is not None
        until = time.monotonic() + budget
        pending = [
            (level, (baseline.plain[level], self._candidate[baseline.provider, level]))
            for level in (ENABLE_ALL, DISABLE_ALL)
        ]
        while pending:
            (level, runs), *pending = pending
            left = until - time.monotonic()
            if sum(map(_least_time, runs)) > left and not asked:
                continue
            both = asked or all(sum(map(_least_time, some)) <= left / 2 for _, some in pending)
            self.announce(f"timing both on {short_name(baseline.provider)} at {level}")
            share = left / (1 + len(pending)) if both else left
            time_both = partial(self._timing, candidate, baseline.provider, level, share)
            with contextlib.suppress(CannotRunError):
                timing = confirmed(
                    partial(time_both, [run.session for run in runs]),
                    partial(time_both, [None] * 2),
                )
                if timing is not None:
                    found[level] = timing.to_dict()
            baseline.plain[level] = without_session(baseline.plain[level])
            key = baseline.provider, level
            self._candidate[key] = without_session(self._candidate[key])
        return found

    def _timing(
        self,
        candidate: Path,
        provider: str,
        level: str,
        budget: float,
        sessions: Sequence["InferenceSession | None"],
    ) -> Timing | None:
        """Time both models at one level; now two sessions are alive at a time, however large."""
        started = time.monotonic()
        with caught_stderr():
            before, after = (
                session or load(runnable(path), level, provider)
                for session, path in zip(sessions, (self.path, candidate), strict=True)
            )
            feed = dict(self.originals.feeds[0])
            left = budget - (time.monotonic() - started)
            return timed_in_turn(
                partial(before.run, None, feed),
                partial(after.run, None, feed),
                left,
                asked=self.options.time is not None,
                warm=all(session is not None for session in sessions),
            )

    def shapes(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the shapes that tensors of the original have, for each generated feed."""
        feeds = self.originals.feeds if self.originals.labels else self.originals.feeds[:1]
        with opened.open_model(self.path) as model:
            computed = {name for node in model.proto.graph.node for name in node.output}
        rest = [name for name in names if name in computed]
        provider = next(base.provider for base in self.originals.baselines if base.runs)
        self.announce("looking at the shapes of the original's tensors")
        found: list[dict[str, tuple[int, ...]]] = []
        for feed in feeds:
            found.append({name: shape_of(feed[name]) for name in names if name in feed})
            with contextlib.suppress(CannotRunError):
                found[-1] |= shapes_inside(self.path, rest, provider, feed)
        return {"shapes": found}

    def crossed(
        self, candidate: Path, points: Sequence[tuple[bool, str, str | float]]
    ) -> dict[str, Any]:
        """Tell of tensors whether they are somewhere less and somewhere more than something.

        Args:
            candidate: The other model.
            points: Whether it is the candidate's, the tensor, and another one or a number.
        """
        provider = next(base.provider for base in self.originals.baselines if base.runs)
        self.announce("looking whether bounds are reached")
        found = []
        for is_candidate, tensor, other in points:
            path = candidate if is_candidate else self.path
            try:
                found.append(is_crossed(path, tensor, other, provider, self.originals.feeds))
            except CannotRunError:
                found.append(False)
        return {"crossed": found}

    def layers(
        self, candidate: Path, names: Sequence[str], provider: str, *, everything: bool
    ) -> dict[str, Any]:
        """Compare tensors inside the models; see `layers.compare_layers`."""
        [full_name] = resolve((provider,))
        self.announce("comparing layers inside the models")
        found = compare_layers(
            (self.path, candidate),
            names,
            full_name,
            self.originals.feeds[:1],
            everything=everything,
        )
        return {"layers": [encode(result) for result in found]}


def _least_time(run: Run) -> float:
    """Return how many seconds it takes to load a model anew, if need be, and to time it."""
    load_time, once = run.seconds
    return (0.0 if run.session else load_time) + _ROUNDS * once
