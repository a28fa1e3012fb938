"""The float64 operators against ONNX Runtime, which shares nothing with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bnfold.verification.operators import kernels
from bnfold.verification.operators.evaluate import run_node
from bnfold.verification.operators.node import EvaluationError, UnsupportedError

_TRUTHS = [np.array([False, False, True, True]), np.array([False, True, False, True])]
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    *((op_type, _TRUTHS, {}) for op_type in ("And", "Or", "Xor")),
    ("Not", _TRUTHS[:1], {}),
    ("Conv", [(2, 6, 9, 8), (4, 6, 3, 3), (4,)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", [(2, 6, 9, 8), (9, 2, 3, 2)], {"group": 3, "dilations": [2, 3]}),
    ("Conv", [(1, 4, 9, 8), (4, 1, 3, 3), (4,)], {"group": 4, "auto_pad": "SAME_UPPER"}),
    ("Conv", [(1, 4, 9, 8), (4, 4, 2, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", [(1, 2, 11), (3, 2, 4)], {"strides": [3]}),
    ("Conv", [(1, 2, 5, 6, 4), (3, 2, 2, 2, 3)], {"pads": [1] * 6}),
    ("ConvTranspose", [(2, 6, 5, 4), (6, 4, 3, 3), (4,)], {"strides": [2, 2]}),
    ("ConvTranspose", [(2, 6, 5, 4), (6, 2, 3, 3), (6,)],
     {"group": 3, "strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 1]}),
    ("ConvTranspose", [(1, 4, 5, 4), (4, 1, 2, 3)], {"group": 4, "dilations": [2, 1]}),
    ("ConvTranspose", [(1, 4, 5, 4), (4, 2, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("ConvTranspose", [(1, 4, 5), (4, 3, 3)], {"output_shape": [12], "strides": [2]}),
    ("Gemm", [(4, 5), (5, 6), (6,)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", [(5, 4), (6, 5), (4, 1)], {"transA": 1, "transB": 1}),
    ("MatMul", [(2, 3, 4), (4, 5)], {}),
    ("Einsum", [(2, 3, 4), (5, 4)], {"equation": "bic, oc -> obi"}),
    ("Einsum", [(2, 3, 4), (4, 5)], {"equation": "...c,co->...o"}),
    ("Einsum", [(2, 3, 4), (2, 5, 4)], {"equation": "bic,bjc"}),
    ("MaxPool", [(2, 3, 9, 8)], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("MaxPool", [(2, 3, 9, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [(2, 3, 9, 8)], {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", [(2, 3, 9, 8)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [(2, 3, 9, 8)],
     {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1}),
    ("AveragePool", [(2, 3, 9, 8)], {"kernel_shape": [2, 3], "strides": [3, 2], "ceil_mode": 1}),
    ("GlobalAveragePool", [(2, 3, 9, 8)], {}),
    ("BatchNormalization", [(2, 3, 9, 8), (3,), (3,), (3,), (3,)], {"epsilon": 0.01}),
    ("BatchNormalization", [(2, 3), (3,), (3,), (3,), (3,)], {}),
    ("Shape", [(2, 3, 4)], {"start": 1}),
    ("Size", [(2, 3, 4)], {}),
    ("Cast", [(2, 3)], {"to": TensorProto.FLOAT}),
    ("CastLike", [(2, 3), (1,)], {}),
    ("Clip", [(2, 3, 4), np.asarray(-0.5, "f"), np.asarray(0.25, "f")], {}),
    ("Abs", [(2, 3, 4)], {}),
    ("Max", [(2, 3, 4), (3, 1)], {}),
    ("Min", [(2, 3, 4), (3, 1), ()], {}),
    ("Expand", [(3, 1), np.array([2, 3, 4])], {}),
    ("Tile", [(2, 3), np.array([2, 1])], {}),
]  # fmt: skip


ELEMENTWISE = [
    "Atan", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Sigmoid", "Softplus", "Softsign",
    "Tanh",
]  # fmt: skip


@pytest.mark.parametrize("op_type", ELEMENTWISE)
def test_what_is_nowhere_steeper_as_onnxruntime(op_type: str) -> None:
    x = np.linspace(-9, 9, 199, dtype=np.float32)
    assert_as_onnxruntime(helper.make_node(op_type, ["x"], ["y"]), [x], opset=20)


@pytest.mark.parametrize(("op_type", "shapes", "attributes"), CASES)
def test_as_onnxruntime(op_type: str, shapes: list[Any], attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    inputs: list[Any] = [
        shape if isinstance(shape, np.ndarray) else np.asarray(rng.standard_normal(shape), "f")
        for shape in shapes
    ]
    if op_type == "BatchNormalization":
        inputs[4] = np.abs(inputs[4]) + np.float32(0.1)
    names = [f"i{i}" for i in range(len(inputs))]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    assert_as_onnxruntime(node, inputs)


def assert_as_onnxruntime(node: Any, inputs: Sequence[np.ndarray | None], opset: int = 15) -> None:
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in zip(node.input, inputs, strict=True)
        if value is not None
    ]
    out = onnx.ValueInfoProto(name="y")
    model = helper.make_model(
        helper.make_graph([node], "g", infos, [out]),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {
        name: value for name, value in zip(node.input, inputs, strict=True) if value is not None
    }
    [expected] = session.run(None, feed)
    wide = [v.astype(np.float64) if v is not None and v.dtype.kind == "f" else v for v in inputs]
    [found] = run_node(node, {"": opset}, wide)
    assert found.dtype == (np.float64 if expected.dtype.kind == "f" else expected.dtype)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("way", ["half_pixel", "half_pixel_symmetric"])
def test_resize(mode: str, way: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    node = helper.make_node(
        "Resize", ["x", "roi", "s"], ["y"], mode=mode, coordinate_transformation_mode=way
    )
    scales = np.array([1, 1, 2, 1.7], np.float32)
    assert_as_onnxruntime(node, [x, np.zeros(0, np.float32), scales], opset=19)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude_outside", [0, 1])
def test_a_resize_against_aliases(mode: str, exclude_outside: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 8)).astype(np.float32)
    node = helper.make_node(
        "Resize", ["x", "roi", "s"], ["y"], mode=mode, antialias=1, exclude_outside=exclude_outside
    )
    scales = np.array([1, 1, 0.37, 1.7], np.float32)
    assert_as_onnxruntime(node, [x, np.zeros(0, np.float32), scales], opset=18)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_a_resize_that_keeps_the_ratio(policy: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 11)).astype(np.float32)
    node = helper.make_node(
        "Resize", ["x", "", "", "z"], ["y"],
        mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy,
    )  # fmt: skip
    assert_as_onnxruntime(node, [x, None, None, np.array([7, 5])], opset=18)


def test_a_resize_is_as_long_as_runtimes_make_it() -> None:
    """10 times the float32 next to 1.3 is below 13, but not in float32."""
    node = helper.make_node("Resize", ["x", "roi", "s"], ["y"], mode="nearest")
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 10)
    assert_as_onnxruntime(node, [x, np.zeros(0, np.float32), np.asarray([1, 1, 1.3], "f")])


def test_batch_normalization_takes_the_epsilon_that_the_attribute_holds() -> None:
    node = helper.make_node("BatchNormalization", list("xgbmv"), ["y"])
    x, zero, one = np.ones((1, 1)), np.zeros(1), np.ones(1)
    [y] = run_node(node, {"": 15}, [x, one, zero, zero, zero])
    assert y[0, 0] == 1 / np.sqrt(np.float64(np.float32(1e-5)))


@pytest.mark.parametrize(
    ("opset", "attributes", "outputs", "training"),
    [
        (1, {}, 1, True), (1, {"is_test": 1}, 1, False), (6, {"is_test": 1}, 5, False),
        (6, {"is_test": 0}, 5, True), (7, {}, 1, False), (7, {}, 5, True), (9, {}, 5, True),
        (13, {}, 2, True), (13, {}, 1, False), (14, {}, 1, False), (15, {}, 3, False),
    ],
)  # fmt: skip
def test_the_mode_of_a_batch_normalization_depends_on_the_opset(
    opset: int, attributes: dict[str, int], outputs: int, *, training: bool
) -> None:
    node = helper.make_node("BatchNormalization", list("xgbmv"), list("ypqrs")[:outputs])
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    x, one = np.full((1, 1), 3.0), np.ones(1)
    if training:
        with pytest.raises(UnsupportedError, match="training mode"):
            run_node(node, {"": opset}, [x, one, one, one, one])
        return
    assert run_node(node, {"": opset}, [x, one, one, one, one])[0] == pytest.approx(3, abs=1e-4)


def test_operands_before_opset_7_are_aligned_by_an_attribute() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], broadcast=1, axis=1)
    a, b = np.zeros((1, 3, 2, 2)), np.arange(3.0)
    [y] = run_node(node, {"": 6}, [a, b])
    assert (y[0, :, 0, 0] == b).all()


@pytest.mark.parametrize(
    ("op_type", "shapes"),
    [("Conv", [(1, 3, 5, 5), (4, 2, 3, 3)]), ("Conv", [(1, 2, 2, 2), (4, 2, 3, 3)]),
     ("MatMul", [(2, 3), (4, 5)]), ("NoSuchOperator", [(1,)])],
)  # fmt: skip
def test_what_does_not_fit_is_refused(op_type: str, shapes: list[tuple[int, ...]]) -> None:
    node = helper.make_node(op_type, [f"i{i}" for i in range(len(shapes))], ["y"])
    with pytest.raises(EvaluationError):
        run_node(node, {"": 15}, [np.ones(shape) for shape in shapes])


def test_training_is_refused() -> None:
    node = helper.make_node("BatchNormalization", list("xgbmv"), ["y"], training_mode=1)
    with pytest.raises(EvaluationError):
        run_node(node, {"": 15}, [np.ones((1, 1)), *[np.ones(1)] * 4])


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes"),
    [
        ("Add", [(1 << 16, 1), (1, 1 << 16)], {}),
        ("MatMul", [(1 << 16, 1), (1, 1 << 16)], {}),
        ("Gemm", [(1 << 16, 1), (1, 1 << 16)], {}),
        ("Conv", [(1, 1, 2, 2), (1, 1, 1, 1)], {"pads": [1 << 16] * 4}),
        ("ConvTranspose", [(1, 1, 4, 4), (1, 1, 1, 1)], {"strides": [1 << 16] * 2}),
        ("MaxPool", [(1, 1, 2, 2)], {"kernel_shape": [1, 1], "pads": [1 << 16] * 4}),
        ("Tile", [(2, 2), np.array([1 << 20, 1 << 20])], {}),
    ],
)
def test_what_would_be_enormous_is_not_computed(
    op_type: str, shapes: list[Any], attributes: dict[str, Any]
) -> None:
    inputs = [s if isinstance(s, np.ndarray) else np.ones(s) for s in shapes]
    node = helper.make_node(op_type, [f"i{k}" for k in range(len(inputs))], ["y"], **attributes)
    with pytest.raises(EvaluationError, match=r"too large for a probe|elements"):
        run_node(node, {"": 17}, inputs)


@pytest.mark.parametrize("group", [1, 4])
def test_samples_that_are_zero_in_most_channels_take_few_of_a_large_weight(group: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((7, 512, 4, 3))
    for sample, alive in enumerate([slice(0), slice(40), slice(40, 41), slice(500, 512)]):
        X[sample] *= np.isin(np.arange(512), np.arange(512)[alive]).reshape(-1, 1, 1)
    X[4, 1:511] = 0  # at both ends
    W = rng.standard_normal((128 * group, 512 // group, 3, 3))
    attributes = {"pads": [1, 1, 1, 1], "group": group}
    assert W.size * 4 * 3 >= kernels._LARGE_PRODUCT
    whole = kernels.conv([X, W], attributes)
    parts = []
    for g in range(group):
        x = X.reshape(7, group, -1, 4, 3)[:, g]
        w = W.reshape(group, 128, -1, 3, 3)[g]
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        parts.append(np.einsum("ncyxij,ocij->noyx", windows, w, optimize=True))
    np.testing.assert_allclose(whole, np.concatenate(parts, axis=1), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    ("pads", "axes"),
    [([0, 0, -1, 2, 0, 0, 1, -2], None), ([-1, 1, 0, -3], [2, -1]), ([-2, -1], [3])],
)
def test_a_pad_may_take_away(mode: str, pads: list[int], axes: list[int] | None) -> None:
    X = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
    inputs: list[np.ndarray] = [X, np.asarray(pads), np.asarray(0.5, np.float32)]
    names = ["i0", "i1", "i2"]
    if axes is not None:
        inputs.append(np.asarray(axes))
        names.append("i3")
    node = helper.make_node("Pad", names, ["y"], mode=mode)
    assert_as_onnxruntime(node, inputs, opset=18)
