"""The population statistics of a model's normalizations, from data.

Over mini-batches B of m values per channel (samples times positions), from the network in training
mode, in which each batch is normalized by its own statistics,

    E = E_B[μ_B],   Var = m / (m − 1) · E_B[σ²_B].

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", 2015, algorithm 2. One pass gives all layers. Every batch counts alike, however
many samples it has, as in PyTorch's cumulative average (momentum=None).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import RequestError
from bnfold.files import OpenedModel
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import sealed
from bnfold.graph.facts.graph import Graph
from bnfold.graph.plan.inline import with_callers
from bnfold.graph.plan.planner import read_graph
from bnfold.onnx_model.functions import called_functions, inlined
from bnfold.plain import Plain, fields_of, to_plain
from bnfold.processes.worker import ChildDiedError
from bnfold.rules.affine_nodes import NORMALIZATION
from bnfold.shown import Shown
from bnfold.statistics.freeze import Frozen, Statistics, freeze
from bnfold.statistics.moments import F64, Moments
from bnfold.statistics.normalizations import Normalization, find, in_training
from bnfold.statistics.runner import DEFAULT_TIMEOUT, Runner
from bnfold.statistics.training_network import Given, derive
from bnfold.verification.runs.inputs import Feed, InputSpec, input_specs
from bnfold.verification.runs.loadable import as_target

Batches = Callable[[Sequence[InputSpec]], Iterable[Feed]]
"""Gives the batches for a model's inputs."""

FEW_VALUES = 32
"""Values per channel and batch; statistics of fewer are mostly chance."""
_PAIR = 2


@sealed(eq=False)
class NormalizationEstimate(Plain):
    """What data say about one normalization.

    Attributes:
        name: Its name, or that of its output; of several that share their statistics the first's.
        uses: How many nodes share these statistics.
        batches: How many batches they rest on, counted once for each use.
        values: How many values per channel they rest on.
        mean: E, float64, [C].
        variance: Var, float64, [C].
        mean_error: The standard error of E, [C]; None from one batch.
        variance_error: The standard error of Var, [C]; None from one batch.
        old_mean: The stored E, [C]; None where it is no constant.
        old_variance: The stored Var, [C]; None where it is no constant.
    """

    name: str
    uses: int
    batches: int
    values: int
    mean: F64
    variance: F64
    mean_error: F64 | None = None
    variance_error: F64 | None = None
    old_mean: F64 | None = None
    old_variance: F64 | None = None

    @property
    def moved(self) -> "Worst | None":
        """The channel whose mean moved furthest, in standard deviations; None if unknown."""
        if self.old_mean is None:
            return None
        return Worst.of(self._in_deviations(self.mean - self.old_mean))

    @property
    def spread(self) -> "Worst | None":
        """The channel whose standard deviation changed most, as new / old; None if unknown."""
        if self.old_variance is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt(self.variance / self.old_variance)
            ratio[self.variance == self.old_variance] = 1.0
            return Worst.of(ratio, np.abs(np.log(ratio)))

    @property
    def uncertainty(self) -> "Worst | None":
        """The channel of which the mean is least sure: its standard error in standard deviations.

        None from one batch.
        """
        return None if self.mean_error is None else Worst.of(self._in_deviations(self.mean_error))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        worst = {"moved": self.moved, "spread": self.spread, "uncertainty": self.uncertainty}
        return fields_of(self) | {name: to_plain(one) for name, one in worst.items()}

    def _in_deviations(self, differences: F64) -> F64:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: F64 = np.abs(differences) / np.sqrt(self.variance)
        return np.where(differences == 0, 0.0, ratio)


@sealed
class Worst(Plain):
    """A channel and its value.

    Attributes:
        channel: Its number.
        value: The number that the warning is about; may be infinite.
    """

    channel: int
    value: float

    @classmethod
    def of(cls, values: F64, badness: F64 | None = None) -> "Worst":
        """Return the channel with the largest value, or with the largest badness."""
        ranked = values if badness is None else badness
        channel = int(np.argmax(np.nan_to_num(ranked, nan=np.inf, posinf=np.inf)))
        return cls(channel, float(values[channel]))


@sealed(eq=False)
class Estimate(Shown):
    """The population statistics of a model's normalizations.

    Attributes:
        normalizations: What was found, in the order of the data.
        batches: How many batches were read.
        warnings: What makes some of it doubtful, in sentences.
        skipped: Normalizations whose statistics stay, with the reason, in sentences.
        model: The model with these statistics, in inference mode; None where it went to a file.
    """

    normalizations: tuple[NormalizationEstimate, ...]
    batches: int
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    model: onnx.ModelProto | None = None

    def told(self) -> dict[str, str]:
        """Return how much there is, and how far it moved."""
        moved = [each.moved.value for each in self.normalizations if each.moved is not None]
        told = {"normalizations": str(len(self.normalizations)), "batches": str(self.batches)}
        if moved:
            told["moved by at most"] = f"{max(moved):.2g} standard deviations"
        return told | {"warnings": str(len(self.warnings)), "skipped": str(len(self.skipped))}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data; the model is not in it."""
        told = fields_of(replace(self, model=None))
        del told["model"]
        return told


@sealed
class Estimated:
    """An estimate, and the model with it.

    Attributes:
        estimate: What was found.
        opened: The model, its functions inlined where normalizations are in them.
        frozen: A copy with the new statistics, in inference mode.
    """

    estimate: Estimate
    opened: OpenedModel
    frozen: Frozen


def estimate(
    opened: OpenedModel,
    batches: Batches,
    *,
    only_training: bool = False,
    provider: str = "cpu",
    timeout: float = DEFAULT_TIMEOUT,
    step: Callable[[str], None] = lambda _: None,
) -> Estimated:
    """Estimate the statistics of a model's normalizations and put them in.

    Args:
        opened: The model. Its numbers must lie in files.
        batches: Gives the data.
        only_training: Estimate those in training mode only; the others compute as in inference.
        provider: The short name of the execution provider.
        timeout: Seconds for loading the network, and for each batch.
        step: Called with a text that says how far it is.

    Raises:
        RequestError: The data do not fit, or do not suffice; the text names the normalization.
    """
    flat, graph = _flat(opened)
    every = find(graph)
    chosen = in_training(every) if only_training else every
    _require_runnable(graph, every, chosen)
    used = [each for each in chosen if not each.obstacle]
    if not used:
        raise RequestError("there is no batch normalization whose statistics could be estimated")
    main = [each for each in used if graph.view.nodes[each.node].scope == 0]
    network, given = derive(graph, used)
    sums = {each.module: _Sums(each) for each in main}
    count = 0
    with scratch_folder() as folder:
        target = as_target(flat, network)
        with closing(_runner(target, provider, folder, timeout)) as runner:
            for count, feed in enumerate(batches(input_specs(flat.proto)), 1):
                step(f"estimating statistics: batch {count}")
                outputs = _run(runner, feed, count)
                for each, names in zip(main, given, strict=True):
                    sums[each.module].add(graph, each, names, outputs, count)
    if not count:
        raise RequestError("there are no batches to estimate statistics from")
    found = {module: one.statistics() for module, one in sums.items()}
    records = tuple(one.record(graph) for one in sums.values())
    inner = [each for each in used if graph.view.nodes[each.node].scope != 0]
    told = Estimate(
        records,
        count,
        tuple(warning for one in sums.values() for warning in one.warnings(graph)),
        tuple(_skipped(graph, each) for each in chosen if each.obstacle or each in inner),
    )
    return Estimated(told, flat, freeze(graph, main, found))


def _flat(opened: OpenedModel) -> tuple[OpenedModel, Graph]:
    """Inline the functions that hold normalizations: no tensor in them can be a model's output."""
    holders = {
        (function.domain, function.name)
        for function in opened.proto.functions
        if any(op_type == NORMALIZATION for _, op_type in called_functions(function.node))
    }
    if holders:
        model = inlined(opened.proto, with_callers(opened.proto, holders))
        if model is None:
            raise RequestError("its local functions cannot be inlined, and hold normalizations")
        opened = replace(opened, proto=model)
    return opened, read_graph(opened)


def _require_runnable(
    graph: Graph, every: Sequence[Normalization], chosen: Sequence[Normalization]
) -> None:
    """Refuse a model that would still train: ONNX Runtime's inference builds do not."""
    for each in every:
        if each.training and (each.obstacle or each not in chosen):
            raise RequestError(
                f"{graph.view.nodes[each.node].label} is in training mode, and {each.obstacle}; "
                "the network cannot be run to estimate statistics"
            )


def _skipped(graph: Graph, each: Normalization) -> str:
    why = each.obstacle or "it is inside a subgraph, which gives nothing out"
    return f"{graph.view.nodes[each.node].label}: {why}"


def _runner(target: Any, provider: str, folder: Path, timeout: float) -> Runner:  # noqa: ANN401
    try:
        return Runner(target, provider, folder, timeout)
    except ChildDiedError as error:
        raise RequestError(f"the training network cannot be run: its process {error}") from error


def _run(runner: Runner, feed: Feed, number: int) -> dict[str, NDArray[Any]]:
    try:
        return runner.run(feed)
    except RequestError as error:
        raise RequestError(f"batch {number}: {error}") from error
    except ChildDiedError as error:
        raise RequestError(f"batch {number}: the process that runs it {error}") from error


class _Sums:
    """What the batches so far say about one normalization."""

    def __init__(self, first: Normalization) -> None:
        self._first = first
        self._nodes: set[int] = set()
        self._means, self._variances = Moments(), Moments()
        self._values = 0

    def add(
        self,
        graph: Graph,
        each: Normalization,
        given: Given,
        outputs: Mapping[str, NDArray[Any]],
        number: int,
    ) -> None:
        """Take one batch, and refuse one that says nothing."""
        mean = outputs[given.mean].reshape(-1).astype(np.float64)
        variance = outputs[given.variance].reshape(-1).astype(np.float64)
        shape = outputs[given.shape]
        label = graph.view.nodes[each.node].label
        values = int(np.prod(shape)) // max(int(shape[1]), 1)
        if values < _PAIR:
            raise RequestError(
                f"batch {number}: {label} meets one value per channel, which has no variance; "
                "larger batches are needed"
            )
        broken = ~(np.isfinite(mean) & np.isfinite(variance))
        if broken.any():
            raise RequestError(
                f"batch {number}: {label} meets NaN or infinity in channel {int(broken.argmax())}"
            )
        self._nodes.add(each.node)
        self._values += values
        self._means.add(mean)
        self._variances.add(variance * values / (values - 1))

    def statistics(self) -> Statistics:
        """Return E and Var."""
        return Statistics(self._means.mean, self._variances.mean)

    def record(self, graph: Graph) -> NormalizationEstimate:
        """Return the estimate of it."""
        proto = graph.view.nodes[self._first.node].proto
        operator = graph.operator(self._first.node)
        old = [operator.required(index) for index in (3, 4)]
        mean, variance = (
            value.numbers().astype(np.float64) if value.is_constant else None for value in old
        )
        return NormalizationEstimate(
            name=proto.name or proto.output[0],
            uses=len(self._nodes),
            batches=self._means.count,
            values=self._values,
            mean=self._means.mean,
            variance=self._variances.mean,
            mean_error=self._means.standard_error(),
            variance_error=self._variances.standard_error(),
            old_mean=mean,
            old_variance=variance,
        )

    def warnings(self, graph: Graph) -> list[str]:
        """Return what makes it doubtful."""
        label = graph.view.nodes[self._first.node].label
        found = []
        constant = np.flatnonzero(self._variances.mean == 0)
        if constant.size:
            more = f" and {constant.size - 1} more" if constant.size > 1 else ""
            found.append(f"{label}: channel {constant[0]}{more} had the same value everywhere")
        if self._values < FEW_VALUES * self._means.count:
            found.append(
                f"{label}: {self._values // self._means.count} values per channel and batch; "
                f"with fewer than {FEW_VALUES} the statistics of a batch are mostly chance"
            )
        return found
