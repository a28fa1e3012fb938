"""What is told of a node that somebody asks about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from commandline import MODELS, write

import bnfold

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.reports.explained import AttemptRecord, ExplainedRecord

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BLOCK = """
    g (float[1,2,4,4] x) => (float[1,2,4,4] z)
    <float[2,2,1,1] W = {1, 2, 3, 4}, float[2,2,1,1] V = {1, 1, 2, 2},
     float[2] s = {2, 3}, float[2] t = {1, 2}, float[2] e = {0, 0}, float[2] v = {1, 1}>
    {
      c = Conv (x, W)
      r = Relu (c)
      [norm] n = BatchNormalization (r, s, t, e, v)
      z = Conv (n, V)
    }"""


def explained(
    folder: Path, text: str, node: str, *, bn_only: bool = False
) -> tuple[ExplainedRecord, ...]:
    path = write(onnx.parser.parse_model(HEAD + text), folder / "net.onnx")
    return bnfold.fold_file(path, check=True, bn_only=bn_only, explain=node).explained


def told(attempt: AttemptRecord) -> tuple[str, list[str], str]:
    """Return the way, what each node does, and the reason that ends it."""
    steps = [f"{step.node.op_type} {step.did}" for step in attempt.steps]
    return attempt.how, steps, "" if attempt.refused is None else attempt.refused.reason


def test_each_attempt_is_told_step_by_step(tmp_path: Path) -> None:
    (found,) = explained(tmp_path, BLOCK, "norm")
    assert found.role == "affine"
    assert [(told(a), a.is_scale) for a in found.attempts] == [
        (("output", [], "needs-zero-shift"), False),
        (("output", ["Relu passes-up", "Conv absorbs"], "no-gain"), True),
        (("input", ["Conv absorbs"], ""), False),
    ]
    assert found.attempts[0].refused is not None
    assert found.attempts[0].refused.at == "Relu 'r'"


def test_what_goes_down_is_told(tmp_path: Path) -> None:
    text = BLOCK.replace("r = Relu (c)", "r = Sigmoid (c)")
    (found,) = explained(tmp_path, text, "norm")
    assert [told(attempt) for attempt in found.attempts] == [
        ("output", [], "not-linear"),
        ("output", [], "not-linear"),
        ("input", ["Conv absorbs"], ""),
    ]
    assert [(fold.how, fold.into[0].output) for fold in found.folds] == [("input", "z")]


@pytest.mark.parametrize("name", ["kept", "densenet"])
def test_every_run_that_stays_shows_its_reasons(name: str) -> None:
    report = bnfold.fold_file(MODELS / f"{name}.onnx", check=True)
    assert report.kept
    for kept in report.kept[:4]:
        node = kept.nodes[0].output
        (found,) = bnfold.fold_file(MODELS / f"{name}.onnx", check=True, explain=node).explained
        assert kept in found.kept
        ends = {(attempt.how, attempt.refused) for attempt in found.attempts}
        assert ("output", kept.above) in ends
        assert ("input", kept.below) in ends


def test_every_node_is_explained_by_its_name_or_by_what_it_makes() -> None:
    model = MODELS / "kept.onnx"
    graph = onnx.ModelProto.FromString(model.read_bytes()).graph
    for node in graph.node:
        by_name = bnfold.fold_file(model, check=True, explain=node.name).explained
        by_output = bnfold.fold_file(model, check=True, explain=node.output[0]).explained
        assert by_name == by_output
        assert [record.node.output for record in by_name] == [node.output[0]]
        if node.op_type == "BatchNormalization":
            assert by_name[0].attempts


def test_what_a_node_is_that_is_no_affine(tmp_path: Path) -> None:
    text = """
        g (float[1,2] x, float[1,2] y) => (float[1,2] z)
        <float[2,2] W = {1, 2, 3, 4}, float[2] b = {1, 2}, float s = {2}>
        {
          m = MatMul (x, W)
          a = Add (m, b)
          i = Identity (a)
          p = Mul (i, y)
          q = Relu (p)
          k = Softmax (q)
          z = Mul (k, s)
        }"""
    roles = {name: explained(tmp_path, text, name)[0] for name in "maipqkz"}
    assert {name: found.role for name, found in roles.items()} == {
        "m": "linear",
        "a": "bias",
        "i": "idle",
        "p": "carry",
        "q": "carry",
        "k": "unknown",
        "z": "affine",
    }
    assert roles["a"].partner == roles["m"].node
    assert roles["p"].obstacle is not None
    assert roles["p"].obstacle.reason == "parameters-not-constant"
    assert [kept.nodes[0].output for kept in roles["k"].kept] == ["z"]  # it is in its way
    assert roles["z"].attempts


def test_a_training_normalization_is_refused_by_itself(tmp_path: Path) -> None:
    text = BLOCK.replace("(r, s, t, e, v)", "<training_mode = 1> (r, s, t, e, v)")
    (found,) = explained(tmp_path, text, "norm")
    assert (found.role, found.attempts) == ("refused", ())
    assert found.obstacle is not None
    assert found.obstacle.reason == "training-mode"
    assert len(found.kept) == 1


def test_a_node_that_another_one_takes_along(tmp_path: Path) -> None:
    text = BLOCK.replace(
        "z = Conv (n, V)", "d = BatchNormalization (r, s, t, e, v)\n z = Mul (n, d)"
    )
    (found,) = explained(tmp_path, text.replace("r = Relu (c)", "r = Identity (c)"), "d")
    assert found.attempts == ()
    assert [node.output for node in found.folds[0].taken] == ["n", "d"]


def test_a_run_that_is_not_asked_for_is_not_tried(tmp_path: Path) -> None:
    text = BLOCK.replace("[norm] n = BatchNormalization (r, s, t, e, v)", "n = Mul (r, k)")
    text = text.replace("float[2] s", "float k = {2}, float[2] s")
    (found,) = explained(tmp_path, text, "n", bn_only=True)
    assert (found.attempts, found.folds, found.kept) == ((), (), ())
    assert explained(tmp_path, text, "n")[0].attempts


def test_attempts_that_come_to_the_same_end_are_counted(tmp_path: Path) -> None:
    text = """
        g (float[1,2,4,4] x) => (float[1,2,4,4] z)
        <float[2,2,1,1] W = {1, 2, 3, 4}, float[2] s = {2, 3}, float[2] t = {1, 2},
         float[2] e = {0, 0}, float[2] v = {1, 1}>
        {
          n = BatchNormalization (x, s, t, e, v)
          r = Sigmoid (n)
          c = Conv (r, W)
          z = BatchNormalization (c, s, t, e, v)
        }"""
    (found,) = explained(tmp_path, text, "n")
    assert [(attempt.how, attempt.times) for attempt in found.attempts] == [
        ("output", 2),
        ("output", 2),
        ("input", 2),
    ]


def test_forks_are_told(tmp_path: Path) -> None:
    """The shift of a sum can go to either of its branches; one of them ends at a Relu."""
    text = """
        g (float[1,2,4,4] x) => (float[1,2,4,4] z)
        <float[2,2,1,1] W = {1, 2, 3, 4}, float[2] s = {2, 3}, float[2] t = {1, 2},
         float[2] e = {0, 0}, float[2] v = {1, 1}>
        {
          c = Conv (x, W)
          d = Conv (c, W)
          r = Relu (d)
          a = Add (r, c)
          z = BatchNormalization (a, s, t, e, v)
        }"""
    (found,) = explained(tmp_path, text, "z")
    forks = [step for attempt in found.attempts for step in attempt.steps if step.did == "forks"]
    assert {step.detail for step in forks} == {"way 1 of 2", "way 2 of 2"}


def test_nodes_of_subgraphs_and_of_one_name(tmp_path: Path) -> None:
    body = "(float[1,2,4,4] {0}) {{ {1} = Conv (x, W)  [same] {0} = Mul ({1}, s) }}"
    branches = (
        f"then_branch = t1 () => {body.format('u', 'p')},"
        f" else_branch = e1 () => {body.format('w', 'q')}"
    )
    text = f"""
        g (bool k, float[1,2,4,4] x) => (float[1,2,4,4] z)
        <float[2,2,1,1] W = {{1, 2, 3, 4}}, float s = {{2}}>
        {{
          z = If (k) <{branches}>
        }}"""
    both = explained(tmp_path, text, "same")
    assert [record.node.scope for record in both] == ["z.then_branch", "z.else_branch"]
    assert all(record.folds for record in both)
    (one,) = explained(tmp_path, text, str(both[1].node))
    assert one == both[1]


def test_a_name_of_very_many_nodes_is_refused(tmp_path: Path) -> None:
    nodes = "".join(f"[m] t{i + 1} = Sigmoid (t{i})\n" for i in range(9))
    text = f"g (float[2] t0) => (float[2] t9) {{ {nodes} }}"
    with pytest.raises(bnfold.RequestError, match="9 nodes are called 'm'; name one by its output"):
        explained(tmp_path, text, "m")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nrom", "no node or output is called 'nrom'; is 'norm' meant?"),
        ("NORM", "is 'norm' meant?"),
        ("", "no node or output is called ''; --check -v names what is folded and what is kept$"),
        ("nothing like it", "no node or output is called 'nothing like it'; --check -v names"),
        ("x", "'x' is an input or a stored tensor; no node makes it"),
        ("W", "'W' is an input or a stored tensor; no node makes it"),
    ],
)
def test_a_node_that_is_not_there(tmp_path: Path, asked: str, said: str) -> None:
    with pytest.raises(bnfold.RequestError, match=rf"net.onnx: .*{said.replace('?', '.')}"):
        explained(tmp_path, BLOCK, asked)


def test_explaining_needs_a_check(tmp_path: Path) -> None:
    path = write(onnx.parser.parse_model(HEAD + BLOCK), tmp_path / "net.onnx")
    with pytest.raises(bnfold.RequestError, match="needs --check"):
        bnfold.fold_file(path, explain="norm")
    assert not (tmp_path / "net.folded.onnx").exists()
