"""What folds several models: processes of our own, or a Dask cluster."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bnfold.errors import RequestError, first_sentence
from bnfold.processes.processors import processors
from bnfold.processes.signals import interrupts_held_back, interrupts_not_inherited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnfold.many.fold_many import Hands


@contextmanager
def hired(options: dict[str, Any]) -> "Iterator[Hands]":
    """Give what folds: as many processes as `jobs` says, or the executor of a cluster.

    Raises:
        RequestError: Dask is not installed, or no scheduler answers.
    """
    if options["dask"] is None:
        yield options["jobs"] or 1
        return
    try:
        # Threads that are started meanwhile leave Ctrl-C to the main thread.
        with interrupts_held_back():
            from distributed import Client
    except ImportError as error:
        raise RequestError("--dask needs Dask: pip install 'bnfold[dask]'") from error
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with interrupts_held_back():
        client = _client(Client, options["dask"], options["jobs"])
    try:
        yield client.get_executor(pure=False)
    finally:
        with interrupts_held_back():
            client.close()
            if client.cluster is not None:
                client.cluster.close()


def _client(make: Any, address: str, jobs: int | None) -> Any:  # noqa: ANN401 - untyped
    """Connect to a scheduler, or start one with workers of one thread each.

    A terminal sends Ctrl-C to all of these processes; this one ends the others.
    """
    if address == "local":
        import logging

        with interrupts_not_inherited():
            return make(
                n_workers=jobs or processors(),
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
    if jobs is not None:
        raise RequestError("--jobs and --dask exclude each other, except for --dask local")
    try:
        return make(address, timeout=10)
    except (OSError, ValueError, TypeError) as error:
        raise RequestError(f"--dask {address}: {first_sentence(error)}") from error
