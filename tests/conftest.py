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
settings.register_profile("quick", settings.get_profile("bnfold"), max_examples=20)

_SLOW = frozenset(
    {
        "benchmarks", "many", "models", "processes", "runs", "statistics", "test_advice.py",
        "test_api.py", "test_batch.py", "test_bends.py", "test_browser.py", "test_cells.py",
        "test_completion.py", "test_control_sequences.py", "test_deformable.py",
        "test_deliberate.py", "test_dropped.py", "test_examples.py", "test_executed.py",
        "test_foreign.py", "test_hostile.py", "test_in_memory.py", "test_lost_digits.py",
        "test_main.py", "test_mutations.py", "test_network.py", "test_networks.py",
        "test_not_finite.py", "test_options.py", "test_overflow.py", "test_page.py",
        "test_peers.py", "test_pipes.py", "test_publish.py", "test_quantized.py",
        "test_random_graphs.py", "test_random_numbers.py", "test_real_networks.py",
        "test_report.py", "test_rows.py", "test_rows_proved.py", "test_runs.py",
        "test_scales_that_pass.py", "test_shapes_in_regions.py", "test_site.py", "test_sources.py",
        "test_strangers.py", "test_underflow.py", "test_verifier.py", "test_wrong_pairs.py",
    }
)  # fmt: skip
"""Files and folders of tests that start processes, run whole networks or try many cases.

A single slow test in a quick file is marked where it stands."""


def _quickly(config: pytest.Config) -> bool:
    return "not slow" in config.option.markexpr


def _is_slow(path: Path, config: pytest.Config) -> bool:
    return not _SLOW.isdisjoint(path.relative_to(config.rootpath).parts)


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples where an answer is wanted at once."""
    settings.load_profile("quick" if _quickly(config) else "bnfold")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave unread what is left out anyway: to read all tests takes as long as to run many."""
    return (_quickly(config) and _is_slow(collection_path, config)) or None


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Mark what `nox -s fast` leaves out; whatever is asked for by name runs anyway."""
    for item in items:
        if _is_slow(Path(item.path), config):
            item.add_marker("slow")
