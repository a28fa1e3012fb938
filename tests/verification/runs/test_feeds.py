import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import RequestError
from bnfold.verification.runs.feeds import generated
from bnfold.verification.runs.inputs import InputSpec, input_specs

info = helper.make_tensor_value_info


def model(
    inputs: list[onnx.ValueInfoProto],
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, [], initializers))


def first(specs: list[InputSpec], shapes: Any = None, seed: int = 0) -> dict[str, Any]:
    return dict(next(generated(specs, shapes or {}, seed=seed, count=1))[0])


def test_declared_shapes_are_kept_and_symbols_are_one_number() -> None:
    specs = input_specs(model([info("a", 1, ["N", 3, "T"]), info("b", 1, ["N", "T"])], [], {}))
    feed = first(specs)
    assert feed["a"].shape == (1, 3, 64)
    assert feed["b"].shape == (1, 64)
    assert feed["a"].dtype == np.float32


def test_the_seed_decides() -> None:
    specs = [InputSpec("x", TensorProto.FLOAT, (4, 4))]
    assert (first(specs, seed=1)["x"] == first(specs, seed=1)["x"]).all()
    assert (first(specs, seed=1)["x"] != first(specs, seed=2)["x"]).any()


def test_channels_come_from_the_weight() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=1),
        helper.make_node("Conv", ["c", "W"], ["y"], group=2),
    ]
    W = np.zeros((4, 3, 1, 1), np.float32)
    [spec] = input_specs(model([info("x", 1, ["N", "C", "H", "W"])], nodes, {"W": W}))
    assert spec.dims == ("N", 6, "H", "W")
    [spec] = input_specs(model([info("x", 1, None)], nodes, {"W": W}))
    assert spec.dims is not None
    assert spec.dims[1] == 6


@pytest.mark.parametrize(
    ("op_type", "declared", "others", "attributes", "dims"),
    [
        ("Conv", "NCHW", {"W": (4, 3, 1, 1)}, {"group": 2}, ("N", 6, "H", "W")),
        ("ConvTranspose", "NCHW", {"W": (4, 3, 1, 1)}, {"group": 2}, ("N", 4, "H", "W")),
        ("BatchNormalization", "NCT", dict.fromkeys("abcd", (5,)), {}, ("N", 5, "T")),
        ("Gemm", "NC", {"W": (3, 4)}, {}, ("N", 3)),
        ("Gemm", "CN", {"W": (3, 4)}, {"transA": 1, "transB": 1}, (4, "N")),
        ("MatMul", "NTC", {"W": (3, 4)}, {}, ("N", "T", 3)),
        ("MatMul", "NTC", {"W": (3,)}, {}, ("N", "T", 3)),
        ("Einsum", "NTC", {"W": (3, 4)}, {"equation": "ntc,cd->ntd"}, ("N", "T", 3)),
    ],
)
def test_readers_fix_lengths(
    op_type: str,
    declared: str,
    others: dict[str, tuple[int, ...]],
    attributes: dict[str, Any],
    dims: tuple[int | str, ...],
) -> None:
    node = helper.make_node(op_type, ["x", *others], ["y"], **attributes)
    constants = {name: np.zeros(shape, np.float32) for name, shape in others.items()}
    [spec] = input_specs(model([info("x", 1, [*declared])], [node], constants))
    assert spec.dims == dims


@pytest.mark.parametrize(
    ("op_type", "attributes", "rank"),
    [("Transpose", {"perm": [0, 2, 1]}, 3), ("MaxPool", {"kernel_shape": [2, 2]}, 4)],
)
def test_readers_fix_the_rank(op_type: str, attributes: dict[str, Any], rank: int) -> None:
    node = helper.make_node(op_type, ["x"], ["y"], **attributes)
    [spec] = input_specs(model([info("x", 1, None)], [node], {}))
    assert spec.dims is not None
    assert len(spec.dims) == rank


def test_the_right_operand_of_a_product_has_as_many_rows_as_the_left_one_columns() -> None:
    node = helper.make_node("MatMul", ["W", "x"], ["y"])
    W = np.zeros((4, 3), np.float32)
    [spec] = input_specs(model([info("x", 1, ["N", "K", "T"])], [node], {"W": W}))
    assert spec.dims == ("N", 3, "T")


def test_indices_stay_inside_what_they_index() -> None:
    nodes = [
        helper.make_node("Reshape", ["ids", "shape"], ["flat"]),
        helper.make_node("Gather", ["table", "flat"], ["y"]),
    ]
    constants = {"table": np.zeros((7, 2), np.float32), "shape": np.array([-1])}
    [spec] = input_specs(model([info("ids", TensorProto.INT64, ["N", "T"])], nodes, constants))
    assert spec.bound == 7
    ids = first([spec])["ids"]
    assert ids.min() >= 0
    assert ids.max() == 6


def test_initializers_that_are_inputs_are_not_fed() -> None:
    specs = input_specs(
        model([info("x", 1, [1]), info("W", 1, [1])], [], {"W": np.zeros(1, np.float32)})
    )
    assert [spec.name for spec in specs] == ["x"]


@pytest.mark.parametrize(
    ("elem_type", "low", "high"),
    [(TensorProto.BOOL, 0, 1), (TensorProto.UINT8, 0, 255), (TensorProto.INT8, -128, 127),
     (TensorProto.INT64, 0, 1)],
)  # fmt: skip
def test_integers_fill_their_range(elem_type: int, low: int, high: int) -> None:
    x = first([InputSpec("x", elem_type, (100, 100))])["x"]
    assert (int(x.min()), int(x.max())) == (low, high)


def test_strings_and_sequences_are_made_up() -> None:
    feed = first([
        InputSpec("s", TensorProto.STRING, (3,)),
        InputSpec("q", TensorProto.FLOAT, (2,), sequence=True),
    ])  # fmt: skip
    assert feed["s"].dtype == object
    assert len(feed["q"]) == 1


def test_a_map_is_refused_by_name() -> None:
    value = onnx.ValueInfoProto(name="m")
    value.type.map_type.key_type = TensorProto.STRING
    with pytest.raises(RequestError, match="'m' is a map"):
        input_specs(model([value], [], {}))


def test_given_shapes_are_taken_and_bind_symbols() -> None:
    specs = input_specs(model([info("a", 1, ["N", "T"]), info("b", 1, ["T"])], [], {}))
    feed = first(specs, {"a": (2, 9)})
    assert feed["a"].shape == (2, 9)
    assert feed["b"].shape == (9,)


@pytest.mark.parametrize("shapes", [{"zz": (1,)}, {"a": (1, 2, 3)}, {"a": (2, 5)}])
def test_given_shapes_that_contradict_the_model_are_refused(shapes: Any) -> None:
    specs = input_specs(model([info("a", 1, ["N", 4])], [], {}))
    with pytest.raises(RequestError):
        first(specs, shapes)


def test_many_sizes_are_tried_and_none_is_huge() -> None:
    specs = [InputSpec("x", TensorProto.FLOAT, ("a", "b", "c"))]
    sizes = {
        feeds[0]["x"].shape for feeds in itertools.islice(generated(specs, {}, seed=0, count=1), 40)
    }
    assert len(sizes) > 20
    huge = [InputSpec("x", TensorProto.FLOAT, ("a", 1 << 20))]
    assert all(
        feeds[0]["x"].size <= 1 << 26
        for feeds in itertools.islice(generated(huge, {}, seed=0, count=1), 1)
    )


def test_more_axes_than_an_array_has_are_not_made_up() -> None:
    specs = [InputSpec("x", TensorProto.FLOAT, (1,) * 65)]
    assert not list(generated(specs, {}, seed=0, count=1))
