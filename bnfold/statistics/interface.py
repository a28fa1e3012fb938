"""The Python interface to population statistics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import onnx

from bnfold.files import materialize, open_model
from bnfold.files.given import Given, as_file, model_or_path
from bnfold.statistics.estimate import Estimate, estimate
from bnfold.statistics.runner import DEFAULT_TIMEOUT
from bnfold.verification.runs.inputs import Feed, InputSpec
from bnfold.verification.runs.userdata import fitted


def estimate_statistics(
    model: Given,
    batches: Iterable[Feed],
    *,
    only_training: bool = False,
    provider: str = "cpu",
    timeout: float = DEFAULT_TIMEOUT,
) -> Estimate:
    """Estimate the population statistics of a model's batch normalizations from data.

    Args:
        model: A model or the path to one; it is not changed.
        batches: Dictionaries of the inputs' arrays by name, one for each batch; read one at a
            time.
        only_training: Estimate those in training mode only.
        provider: The execution provider that runs the network.
        timeout: Seconds for loading the network, and for each batch.

    Returns:
        What was found; its `model` is the model with these statistics, in inference mode.

    Raises:
        RequestError: The batches do not fit, or do not suffice; the text names the normalization.
        ModelError: This is no ONNX model.
        TypeError: `model` is neither a model nor a path, or a batch is no mapping.
    """
    with ExitStack() as stack:
        given = model_or_path(model)
        if isinstance(given, onnx.ModelProto):
            given = stack.enter_context(as_file(given, "the given model"))
        opened = stack.enter_context(open_model(given))
        found = estimate(
            opened,
            lambda specs: _fitting(batches, specs),
            only_training=only_training,
            provider=provider,
            timeout=timeout,
        )
        made = materialize(found.opened, found.frozen.proto, found.frozen.recipes)
        return replace(found.estimate, model=made)


def _fitting(batches: Iterable[Feed], specs: Sequence[InputSpec]) -> Iterator[Feed]:
    """Yield the model's inputs out of each batch."""
    for number, batch in enumerate(batches, 1):
        if not isinstance(batch, Mapping):
            kind = type(batch).__name__
            raise TypeError(f"a batch is a mapping of arrays by the inputs' names, not {kind}")
        yield fitted(batch, specs, f"batch {number}")
