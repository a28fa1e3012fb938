"""Settings of all tests."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ("stores",)

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
        "statistics", "proof", "test_api.py", "test_carry.py",
        "test_shapes_in_regions.py", "test_not_finite.py", "test_page.py", "test_random_numbers.py",
        "test_control_sequences.py", "test_sources.py", "test_strangers.py", "test_advice.py",
        "test_examples.py", "test_in_memory.py", "test_pipes.py", "many", "test_browser.py",
        "test_deliberate.py", "test_deformable.py", "test_options.py", "test_report.py",
        "test_sums.py", "test_wrong_pairs.py",
    }
)  # fmt: skip
"""Files and folders of tests that start processes, run whole networks or try many cases.

A single slow test in a quick file is marked where it stands."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `nox -s fast` leaves out; whatever is asked for by name runs anyway."""
    for item in items:
        if not _SLOW.isdisjoint(Path(item.path).parts):
            item.add_marker("slow")
