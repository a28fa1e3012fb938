"""Attempts are noted for one node only, and noting them changes no plan."""

from __future__ import annotations

import pytest
from commandline import MODELS

from bnfold.files import open_model
from bnfold.graph.plan.attempts import Attempt, Recorder
from bnfold.graph.plan.plan import How
from bnfold.graph.plan.planner import make_plan, read_graph


@pytest.mark.parametrize("name", ["mixnet", "levit", "densenet"])
def test_noting_changes_nothing(name: str) -> None:
    with open_model(MODELS / f"{name}.onnx") as opened:
        graph = read_graph(opened)
        plain = make_plan(graph)
        taken = plain.folds[0].taken[0]
        recorder = Recorder(taken)
        noted = make_plan(graph, tracer=recorder)
    assert (noted.folds, noted.kept) == (plain.folds, plain.kept)
    assert [attempt.obstacle for attempt in recorder.attempts][-1:] == [None]
    assert all(taken in attempt.nodes for attempt in recorder.attempts if len(attempt.nodes) == 1)


def test_a_run_of_several_nodes_is_tried_in_parts() -> None:
    with open_model(MODELS / "kept.onnx") as opened:
        graph = read_graph(opened)
        numbers = [node.number for node in graph.view.nodes]
        tried: list[Attempt] = []
        for number in numbers:
            recorder = Recorder(number)
            make_plan(graph, tracer=recorder)
            tried += recorder.attempts
    assert {attempt.how for attempt in tried} == {How.OUTPUT, How.INPUT}
    assert any(attempt.is_scale for attempt in tried)
    assert all(step.node not in attempt.nodes for attempt in tried for step in attempt.steps)
