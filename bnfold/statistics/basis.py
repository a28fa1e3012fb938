"""What is folded: a model, or a copy of it in inference mode and with other statistics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bnfold.files import OpenedModel, open_model, save_model
from bnfold.files.scratch import scratch_folder
from bnfold.frozen import frozen
from bnfold.graph.plan.planner import read_graph
from bnfold.statistics.batches import read_batches
from bnfold.statistics.estimate import Estimate, estimate
from bnfold.statistics.freeze import Frozen, freeze
from bnfold.statistics.normalizations import find, in_training
from bnfold.statistics.options import StatisticsOptions


@frozen(eq=False)
class Basis:
    """A model whose statistics are those to be folded.

    Attributes:
        opened: The model.
        path: Where it is.
        estimate: What was estimated for it.
    """

    opened: OpenedModel
    path: Path
    estimate: Estimate | None = None


@contextmanager
def in_inference_mode(
    source: OpenedModel,
    path: Path,
    options: StatisticsOptions,
    *,
    provider: str,
    timeout: float,
    step: Callable[[str], None],
) -> Iterator[Basis]:
    """Give a model in inference mode; it is gone when the context ends.

    Args:
        source: The model.
        path: Where it is.
        options: Where its statistics come from.
        provider: The short name of the execution provider that runs the network.
        timeout: Seconds for loading the network, and for each batch.
        step: Called with a text that says how far it is.

    Raises:
        RequestError: The data do not fit, or do not suffice.
    """
    opened, made, found = source, None, None
    if options.data is not None:
        data = Path(options.data)
        estimated = estimate(
            source,
            lambda specs: read_batches(data, specs, options.batch_size),
            only_training=options.only_training,
            provider=provider,
            timeout=timeout,
            step=step,
        )
        opened, made, found = estimated.opened, estimated.frozen, estimated.estimate
    else:
        made = _switched_off(source)
    if made is None:
        yield Basis(source, path)
        return
    with scratch_folder() as folder:
        switched = folder / "inference.onnx"
        save_model(opened, made.proto, made.recipes, switched)
        with open_model(switched) as reopened:
            yield Basis(reopened, switched, found)


def _switched_off(source: OpenedModel) -> Frozen | None:
    """Return a model in inference mode, or None where it is."""
    graph = read_graph(source)
    training = in_training(find(graph))
    return freeze(graph, training) if training else None
