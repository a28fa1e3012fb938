"""What the stages of a fold without verification cost, in one process: `stages.py MODEL OUT`.

Prints `stage seconds` lines; `files.py --explain` and `graphs.py` run it. The part of a stage that
is spent in onnx-graphsurgeon, in shape inference or in waiting for the disk stands on a line of
its own and is taken out of the stage. Shape inference begins before the view is made; its line is
what is still to be waited for after that.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bnfold.files import OpenedModel
    from bnfold.graph.edit.rewrite import Rewritten

_APART: Final = {
    "graphsurgeon": ("onnx_graphsurgeon", "import_onnx"),
    "shape inference": ("bnfold.onnx_model.inference", "Inference.result"),
    "fsync": ("os", "fsync"),
}
"""Calls that are timed apart: what they are called in the table, and where they are."""


class Stopwatch:
    """Adds up the seconds of stages; time spent in a nested stage is only counted there."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done in the context as `name`."""
        self._switch()
        self._running.append(name)
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Count the calls of `_APART` apart while the context lasts."""
        with ExitStack() as patches:
            for name, (module, function) in _APART.items():
                *path, attribute = function.split(".")
                holder = reduce(getattr, path, import_module(module))
                original = getattr(holder, attribute)
                patches.callback(setattr, holder, attribute, original)
                setattr(holder, attribute, self._timed(name, original))
            yield

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes
            with self.stage(name):
                return function(*args, **kwargs)

        return timed


def decide(opened: "OpenedModel", watch: Stopwatch) -> "Rewritten":
    """Find out what is to be folded in an opened model, and rewrite its structure."""
    from bnfold.graph.edit.rewrite import rewrite
    from bnfold.graph.plan.planner import look_closer, make_plan, read_graph

    with watch.stage("view"):
        graph = read_graph(opened)
    with watch.stage("plan"):
        plan = make_plan(graph)
    if plan.lacks_shapes:
        with watch.stage("view"):
            graph = look_closer(opened, graph)
        with watch.stage("plan"):
            plan = make_plan(graph)
    with watch.stage("rewrite"):
        return rewrite(opened, graph, plan)


def fold(source: Path, target: Path, watch: Stopwatch) -> None:
    """Fold a model as `bnfold MODEL --no-verify -o OUT` does, and time its stages."""
    with watch.stage("import libraries"):
        for library in ("onnx", "onnx_graphsurgeon", "click"):
            import_module(library)
    with watch.stage("import bnfold"):
        import_module("bnfold.command_line.main")
        import_module("bnfold.command_line.batch")
        from bnfold.files import open_model, save_model
        from bnfold.processes.fork import own_process
    gc.disable()  # as the tool does
    own_process()
    with watch.apart():
        with watch.stage("open"):
            opened = open_model(source)
        with opened:
            rewritten = decide(opened, watch)
            with watch.stage("save"):
                save_model(opened, rewritten.proto, rewritten.recipes, target)


def main() -> None:
    """Fold the model that the command line names, and print the seconds of each stage."""
    watch = Stopwatch()
    fold(Path(sys.argv[1]), Path(sys.argv[2]), watch)
    for name, seconds in watch.seconds.items():
        print(f"{seconds:.6f} {name}")


if __name__ == "__main__":
    main()
