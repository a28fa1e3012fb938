"""Settings of all tests."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell lets what it runs in the background ignore Ctrl-C, and what that runs, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however busy the machine is.
settings.register_profile("bnfold", derandomize=True, deadline=None)
settings.load_profile("bnfold")


_SLOW = frozenset(
    {
        "benchmarks", "models", "processes", "test_batch.py", "test_executed.py", "test_foreign.py",
        "test_hostile.py", "test_main.py", "test_mutations.py", "test_networks.py", "test_peers.py",
        "test_publish.py", "test_random_graphs.py", "test_real_networks.py", "test_rescaling.py",
        "test_rows.py", "test_rows_proved.py", "test_runs.py", "test_verifier.py", "runs",
        "statistics", "proof", "test_api.py", "test_golden.py", "test_carry.py",
    }
)  # fmt: skip
"""Files and folders of tests that start processes, run whole networks or try many cases."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `nox -s fast` leaves out; whatever is asked for by name runs anyway."""
    for item in items:
        if not _SLOW.isdisjoint(Path(item.path).parts):
            item.add_marker("slow")
