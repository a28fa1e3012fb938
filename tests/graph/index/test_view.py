"""The index of a model: who makes, who reads, where a name belongs."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from bnfold.errors import ModelError
from bnfold.graph.index.view import NONE, Tensor, View

_BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool k) => (float[2] z)
<float[2] inner = {1, 2}, float[2] both = {3, 4}, float[2] nobody = {5, 6}>
{
  y = Relu (x)
  z = If (k) <
    then_branch = g1 () => (float[2] t) <float[2] own = {7, 8}> {
      a = Add (y, inner) b = Mul (a, own) t = Add (b, both)
    },
    else_branch = g2 () => (float[2] s) { s = Sub (y, both) }
  >
}
"""


def _view(text: str) -> View:
    return View(onnx.parser.parse_model(text))


def _tensor(view: View, name: str) -> Tensor:
    (found,) = [tensor for tensor in view.tensors if tensor.name == name]
    return found


@pytest.mark.parametrize(
    ("name", "scope", "readers"), [("inner", 0, 1), ("both", 0, 2), ("own", 1, 1), ("y", 0, 2)]
)
def test_a_name_belongs_to_the_scope_that_stores_or_makes_it(
    name: str, scope: int, readers: int
) -> None:
    tensor = _tensor(_view(_BRANCHES), name)
    assert tensor.scope == scope
    assert len(tensor.readers) == readers


@pytest.mark.parametrize("name", ["inner", "both", "own"])
def test_an_initializer_is_known_wherever_it_is_read(name: str) -> None:
    stored = _tensor(_view(_BRANCHES), name).initializer
    assert stored is not None
    assert stored.name == name


_HANDED_OUT = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[2] x, bool k) => (float[2] z, float[2] q) <float[2] w = {1, 2}> {
  y = own.f (x)
  z = If (k) <then_branch = g1 () => (float[2] y) {}, else_branch = g2 () => (float[2] w) {}>
  q = If (k) <
    then_branch = g3 () => (float[2] x) {},
    else_branch = g4 () => (float[2] t) {
      t = If (k) <then_branch = g5 () => (float[2] y) {}, else_branch = g6 () => (float[2] z) {}>
    }
  >
}
<domain: "own", opset_import: ["" : 17]> f (a) => (z) { y = Relu (a) w = Neg (y) z = Relu (w) }
"""


def test_what_a_subgraph_hands_out_from_outside_is_the_tensor_there() -> None:
    view = _view(_HANDED_OUT)
    own = [tensor for tensor in view.tensors if not view.scopes[tensor.scope].is_function]
    outputs = {(tensor.scope, tensor.name): tensor.outputs for tensor in own}
    assert outputs == {
        (0, "x"): 1, (0, "k"): 0, (0, "y"): 2, (0, "w"): 1, (0, "z"): 2, (0, "q"): 1, (4, "t"): 1,
    }  # fmt: skip
    others = {t.name: t.outputs for t in view.tensors if view.scopes[t.scope].is_function}
    assert others == {"a": 0, "y": 0, "w": 0, "z": 1}


def test_scopes_know_their_way() -> None:
    view = _view(_BRANCHES)
    assert [scope.path for scope in view.scopes] == [
        (),
        (("z", "then_branch"),),
        (("z", "else_branch"),),
    ]
    assert [view.nodes[scope.owner].proto.op_type for scope in view.scopes[1:]] == ["If", "If"]


def test_numbers_follow_the_data_and_keep_the_place_in_the_record() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z) { z = Neg (y) y = Relu (x) }""")
    view = View(model)
    assert [node.proto.op_type for node in view.nodes] == ["Relu", "Neg"]
    assert [node.index for node in view.nodes] == [1, 0]


def test_optional_inputs_and_outputs_that_are_left_out_have_no_number() -> None:
    view = _view("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, float m) => (float[2] z) { z = Clip (x, "", m) }""")
    assert view.nodes[0].inputs[1] == NONE
    assert view.nodes[0].inputs[2] != NONE


def test_a_circle_is_refused() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z) { y = Add (x, z) z = Relu (y) }"""
    with pytest.raises(ModelError, match="circle"):
        _view(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("g (float[1] x) => (float[1] y) { [n] y = Relu (nowhere) }", "'n' reads 'nowhere'"),
        ("g (float[1] x) => (float[1] z) { y = Relu (x) }", "nothing makes the output 'z'"),
    ],
)
def test_a_name_that_nothing_stands_for_is_refused(text: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        _view(text)


def test_an_attribute_that_is_there_twice_is_refused() -> None:
    view = "g (float[1] x) => (float[1] y) { [name] y = Elu <alpha = 1.0, alpha = 2.0> (x) }"
    with pytest.raises(ModelError, match="node 'name' has the attribute 'alpha' twice"):
        _view(view)


def test_a_tensor_that_is_made_twice_is_refused() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z) { z = Relu (x) z = Neg (x) }"""
    with pytest.raises(ModelError, match="twice"):
        _view(text)


def test_looking_changes_nothing() -> None:
    model = onnx.parser.parse_model(_BRANCHES)
    before = model.SerializeToString(deterministic=True)
    View(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_subgraph_is_shown_only_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of all names around each of many branches would take quadratic time."""
    branches = """then_branch = t () => (float[2] t) { t = Relu (x) },
        else_branch = e () => (float[2] e) { e = Add (x, w) }"""
    ifs = "\n".join(f"y{i} = If (k) <{branches}>" for i in range(20))
    shown: list[str] = []
    real = vars(View)["_tensor_outside"]

    def spied(view: View, name: str, scope: Any) -> Any:
        shown.append(name)
        return real(view, name, scope)

    monkeypatch.setattr(View, "_tensor_outside", spied)
    view = _view(f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool k) => (float[2] y0) <float[2] w = {{1, 2}}> {{ {ifs} }}""")
    assert shown == ["x", "x", "w"] * 20
    assert (len(_tensor(view, "x").readers), len(_tensor(view, "w").readers)) == (40, 20)
