"""The original, run on every provider on which it is to be compared.

It runs first, while the candidate is still being made: once as written (ORT_DISABLE_ALL) and
once as it is deployed (ORT_ENABLE_ALL).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnfold.files import opened
from bnfold.verification.comparison import Outputs
from bnfold.verification.dtypes import Array
from bnfold.verification.options import VerifyOptions, enough_time
from bnfold.verification.proof.drawing import random_outputs
from bnfold.verification.runs.compare import is_telling
from bnfold.verification.runs.feeds import generated, of_other_sizes, too_large
from bnfold.verification.runs.inputs import Feed, InputSpec, input_specs, shape_of, shape_text
from bnfold.verification.runs.jitter import jittered_feeds, jittered_weights
from bnfold.verification.runs.loadable import runnable
from bnfold.verification.runs.providers import (
    CPU,
    CUDA,
    Availability,
    caught_stderr,
    resolve,
    short_name,
)
from bnfold.verification.runs.sessions import (
    DISABLE_ALL,
    ENABLE_ALL,
    KEPT,
    CannotRunError,
    Run,
    run,
)
from bnfold.verification.runs.trial import Trial
from bnfold.verification.runs.userdata import fed_arrays, load_inputs
from bnfold.verification.verdict import ProviderState

_JITTERS = 2
MANY_JITTERS = 8
"""How often a model is moved to see whether its rounding decides what overflows."""
_MORE_INPUTS = 3
"""Further inputs that are tried where outputs are empty or the same everywhere."""

Attempts = Iterable[list[Feed]]
"""Lists of feeds to try."""


@dataclass(slots=True)
class Baseline:
    """What the original gave on one provider.

    Attributes:
        provider: ONNX Runtime's name of it.
        state: How far the provider got.
        reason: Why no further.
        runs: The outputs by optimization level, stacked over the feeds.
        jitters: The outputs at ORT_DISABLE_ALL with weights and inputs moved by one ulp.
        nodes: Number of nodes by provider, at ORT_DISABLE_ALL.
        linear_nodes: The same for linear operators.
        plain: The runs, by optimization level, without their outputs.
    """

    provider: str
    state: ProviderState
    reason: str = ""
    runs: dict[str, Outputs] = field(default_factory=dict)
    jitters: list[Outputs] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    linear_nodes: dict[str, int] = field(default_factory=dict)
    plain: dict[str, Run] = field(default_factory=dict)

    def variants(self, level: str) -> list[Outputs]:
        """Return everything that differs from the run at `level` by rounding only."""
        return [outputs for key, outputs in self.runs.items() if key != level] + self.jitters


class Originals:
    """The original with its inputs, and its outputs on every provider.

    Attributes:
        path: Its file.
        folder: Where ONNX Runtime may write.
        options: How to verify.
        announce: Called before every step that may take long.
        feeds: The inputs.
        expected: The outputs that came with them.
        baselines: What it gave on each provider.
        random: The outputs that depend on numbers which it draws.
    """

    def __init__(
        self, path: Path, options: VerifyOptions, announce: Callable[[str], None], folder: Path
    ) -> None:
        """Prepare; `announce` is called before every step that may take long."""
        self.path = path
        self.folder = folder
        self.options = options
        self.announce = announce
        self.feeds: Sequence[Feed] = []
        self.labels: list[str] | None = None
        self._specs: Sequence[InputSpec] = ()
        self.expected: Sequence[Outputs] = []
        self.baselines: list[Baseline] = []
        self.random: frozenset[str] = frozenset()
        self._size = 0

    def start(self) -> None:
        """Run the original on every provider.

        Raises:
            RequestError: A provider or the inputs are not what can be worked with.
        """
        named = resolve(self.options.providers) or [CPU, CUDA]
        self.announce("looking for execution providers")
        seconds = self.options.timeout or enough_time(0, 0)
        trials = [Trial(provider, seconds) for provider in named]
        with opened.open_model(self.path) as model:
            self.random = random_outputs(model)
            self._size = model.size
            for provider, trial in zip(named, trials, strict=True):
                attempts = self._attempts(model.proto)
                self.announce(f"trying {short_name(provider)}")
                self.baselines.append(self._baseline(trial.result(), attempts))

    def _attempts(self, model: onnx.ModelProto) -> Attempts:
        """Return lists of feeds to try until the original takes one."""
        self._specs = specs = input_specs(model)
        if self.options.arrays is not None:
            return [fed_arrays(self.options.arrays, specs)]
        path = self.options.inputs_path
        if path is not None:
            names = [output.name for output in model.graph.output]
            fed, self.expected = load_inputs(path, specs, names)
            return [fed]
        return generated(specs, self.options.shapes, seed=self.options.seed, count=1)

    def _baseline(self, found: Availability, attempts: Attempts) -> Baseline:
        baseline = Baseline(found.name, found.state, found.reason)
        if found.state is not ProviderState.RAN:
            return baseline
        try:
            plain = self._first_run(found.name, attempts)
            full = self.run(self.path, ENABLE_ALL, found.name, "the original", notes=True)
        except CannotRunError as error:
            baseline.state, baseline.reason = ProviderState.CANNOT_RUN, str(error)
            return baseline
        baseline.runs = {
            level: self.stacked(result.outputs)
            for level, result in ((DISABLE_ALL, plain), (ENABLE_ALL, full))
        }
        baseline.nodes, baseline.linear_nodes = plain.nodes, plain.linear_nodes
        baseline.plain = {DISABLE_ALL: without_outputs(plain), ENABLE_ALL: without_outputs(full)}
        if found.name not in plain.providers:
            baseline.state = ProviderState.NO_DEVICE
            baseline.reason = "ONNX Runtime gave it up during the run"
        elif plain.nodes and not plain.nodes.get(found.name):
            baseline.state = ProviderState.UNUSED
        return baseline

    def _first_run(self, provider: str, attempts: Attempts) -> Run:
        """Run the original on the first inputs that it accepts."""
        if self.feeds:
            return self.run(self.path, DISABLE_ALL, provider, "the original", notes=True)
        first: CannotRunError | None = None
        likeliest: tuple[Run, Sequence[Feed]] | None = None
        uninformative = 0
        for feeds in attempts:
            more = self._of_other_sizes(feeds[0])
            try:
                result = self.run(
                    self.path,
                    DISABLE_ALL,
                    provider,
                    "the original",
                    feeds=feeds,
                    notes=True,
                    more=more,
                )
            except CannotRunError as error:
                first = first or error  # the one about the likeliest inputs
                if error.loading:
                    break
                continue
            if likeliest is None or _telling(result) > _telling(likeliest[0]):
                likeliest = result, feeds
            uninformative += 1
            if _telling(likeliest[0]) == 1 or uninformative > _MORE_INPUTS:
                break
        if likeliest is None:
            raise self._advised(first)
        result, self.feeds = likeliest
        if result.also_run is not None:
            self.feeds = [*self.feeds, result.also_run]
            self.labels = ["", f" for {_described(self.feeds)}"]
        return result

    def _advised(self, refusal: CannotRunError | None) -> CannotRunError:
        """Return why the original takes no inputs, and what the user can do where sizes are free.

        The refusal is the one of the likeliest inputs.
        """
        large = too_large(self._specs) if self.options.inputs is None else None
        if refusal is None and large is not None and large.dims is not None:
            return CannotRunError(f"input {large.name!r} of {shape_text(large.dims)} is too large")
        free = [
            spec for spec in self._specs
            if spec.name not in self.options.shapes
            and (spec.dims is None or any(isinstance(dim, str) for dim in spec.dims))
        ]  # fmt: skip
        if self.options.inputs is not None or not free or (refusal and refusal.loading):
            return refusal or CannotRunError("no inputs could be made up for it")
        name, dims = free[0].name, free[0].dims
        declared = "of any shape" if dims is None else shape_text(dims)
        why = f"{refusal}; " if refusal else ""
        return CannotRunError(
            f"{why}no sizes were found that it takes, and --shape {name}=… tells them "
            f"(it is declared {declared})"
        )

    def _of_other_sizes(self, feed: Feed) -> list[Feed]:
        """Return feeds of other sizes, of which the original may take one.

        There are none where the user gave the inputs, or accepts what is right for few.
        """
        if self.options.inputs is not None or self.options.allow_narrowed:
            return []
        return list(of_other_sizes(self._specs, self.options.shapes, feed, seed=self.options.seed))

    def run(
        self,
        path: Path,
        level: str,
        provider: str,
        what: str,
        *,
        feeds: Sequence[Feed] | None = None,
        overrides: Mapping[str, Any] | None = None,
        notes: bool = False,
        more: Sequence[Feed] = (),
    ) -> Run:
        """Run a model on the feeds, and on the first of `more` that it takes.

        With notes of what is executed, and a small session kept to run again, or without.

        Raises:
            CannotRunError: ONNX Runtime refuses it.
        """
        self.announce(f"running {what} on {short_name(provider)} at {level}")
        with caught_stderr():
            result = run(
                runnable(path), level, provider, self.feeds if feeds is None else feeds,
                overrides=overrides, profile=self.folder if notes else None, more=more,
            )  # fmt: skip
        return result if self._size <= KEPT[level] else without_session(result)

    def stacked(self, runs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Join what one model gave for the feeds; see `stacked`."""
        return stacked(runs, self.labels)

    def measure_jitter(self, baseline: Baseline, times: int = _JITTERS) -> None:
        """Run the original `times` times with its weights and inputs moved by one ulp."""
        for number in range(len(baseline.jitters), times):
            seed = self.options.seed + number
            with opened.open_model(self.path) as model:
                overrides, extra = jittered_weights(model, seed)
            feeds = [{**jittered_feeds(feed, seed), **extra} for feed in self.feeds]
            try:
                moved = self.run(
                    self.path, DISABLE_ALL, baseline.provider, "the original, jittered,",
                    feeds=feeds, overrides=overrides,
                )  # fmt: skip
            except CannotRunError:  # a provider that takes no other weights: its noise stands
                return
            baseline.jitters.append(self.stacked(moved.outputs))


def without_outputs(run: Run) -> Run:
    """Return a run without the arrays."""
    return replace(run, outputs=[])


def without_session(run: Run) -> Run:
    """Return a run whose session may go."""
    return replace(run, session=None)


def _telling(run: Run) -> float:
    """Return the share of outputs that have elements, not all of them the same."""
    values = [array for outputs in run.outputs for array in outputs.values()]
    return sum(is_telling(array) for array in values) / max(len(values), 1)


def _described(feeds: Sequence[Feed]) -> str:
    """Return the shape of the first input that is of another in the last feed."""
    shapes = [{name: shape_of(value) for name, value in feed.items()} for feed in feeds]
    name = next((n for n in shapes[-1] if shapes[-1][n] != shapes[0].get(n)), "")
    return f"{name} {list(shapes[-1].get(name, ()))}"


def stacked(
    runs: Sequence[Mapping[str, Array]], labels: Sequence[str] | None = None
) -> dict[str, Array]:
    """Join the outputs of several feeds, so that noise and difference are of all of them."""
    if labels is not None:
        return {
            f"{name}{label}": array
            for run, label in zip(runs, labels, strict=True)
            for name, array in run.items()
        }
    joined: dict[str, Array] = {}
    for name in runs[0] if runs else ():
        arrays = [run[name] for run in runs if name in run]
        if len({array.shape for array in arrays}) == 1:
            joined[name] = np.stack(arrays) if len(arrays) > 1 else arrays[0]
            continue
        joined |= {f"{name} (input {i})": array for i, array in enumerate(arrays)}
    return joined
