"""Which faults of a fold are noticed: planted ones, by bnfold's verification and by tolerances.

    python benchmarks/mutation_study.py --networks 204 --seed 0

Each generated network is folded correctly, which must not be rejected, and then once with each
fault. Branches are not merged, so that each layer's numbers can be told. Faults of the numbers that
a fold reads (ε, mean, γ, swapped layers) are planted in a copy of the original before it is folded,
the others in the folded file.

bnfold judges twice: told the regions of the fold, as it verifies what it writes, and on a third of
the networks told nothing, as `bnfold verify A B` does with a stranger's fold. What it does not
allow to be used counts as rejected, be it failed or inconclusive. The tolerances are those of other
tools, on the end-to-end outputs at ORT_DISABLE_ALL.

A fault's size is counted in roundings. A layer is linear, so no input makes its output differ by
more than r roundings of the output's magnitude if each of its numbers differs by no more than that:
|ΔW| ≤ r u |W γ/σ| and |Δb| ≤ r u ((|b| + |E|) |γ|/σ + |β|), with u the unit roundoff of the dtype;
below the smallest normal number of the dtype, that number takes the place of the magnitude. Δ is
what the fault changes, or how far the file is from the exact fold, whichever is less: a file whose
numbers are all the exact ones, rounded, is a correct fold however it came about. A fault of at most
one rounding is *below rounding*: no file of that dtype can be blamed for it.
"""

import argparse
import math
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.region import Region
from bnfold.verification import Verdict, Verifier, VerifyOptions

Array = NDArray[Any]

SIZE: Final = 8
KINDS: Final = ("plain", "residual", "depthwise")
DTYPES: Final = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
CYCLE: Final = len(KINDS) * len(DTYPES)
PARAMETERS: Final = ("gamma", "beta", "mean", "var")
RULES: Final[dict[str, Callable[[Array, Array], bool]]] = {
    "onnxsim: allclose 1e-4 / 1e-5": lambda new, old: np.allclose(new, old, rtol=1e-4, atol=1e-5),
    "onnxslim: allclose 1e-3 / 1e-4": lambda new, old: np.allclose(new, old, rtol=1e-3, atol=1e-4),
    "Polygraphy: 1e-5 absolute or relative": lambda new, old: _either(new, old, 1e-5),
}
TOLD: Final = "bnfold"
UNTOLD: Final = "bnfold verify"
JUDGES: Final = (TOLD, UNTOLD, *RULES)
CORRECT: Final = "none"
DEPTHS: Final = ((1, 10), (11, 30), (31, 101))


def _either(new: Array, old: Array, tolerance: float) -> bool:
    """Tell whether each element is within an absolute or a relative tolerance."""
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(new - old) <= tolerance * np.maximum(1.0, np.abs(old))))


# --- networks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution and its batch normalization, by the names they have in the original."""

    name: str
    square: bool


@dataclass(slots=True)
class Builder:
    """Grows a network, computing what it grows on a few inputs, as training would."""

    rng: np.random.Generator
    dtype: np.dtype[Any]
    epsilon: float
    values: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def constant(self, name: str, value: Array) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(value.astype(self.dtype), name))
        return name

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        **attributes: Any,  # noqa: ANN401 - as onnx.helper takes them
    ) -> str:
        """Add a node."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def layer(self, x: str, name: str, width: int, *, k: int = 3, group: int = 1) -> str:
        """Add a convolution and its batch normalization."""
        rng, data = self.rng, self.values[x]
        channels = data.shape[1]
        W = rng.standard_normal((width, channels // group, k, k)) * math.sqrt(
            2.0 / (channels // group * k * k)
        )
        b = rng.standard_normal(width) * 0.1
        weak = rng.random(width) < 0.1  # their variance is small, often below ε
        W[weak] *= 10.0 ** rng.uniform(-3, -1)
        b[weak] *= 1e-3
        inputs = [x, self.constant(f"{name}.W", W)]
        if rng.random() < 0.5:
            inputs.append(self.constant(f"{name}.b", b))
        else:
            b *= 0.0
        self.node("Conv", inputs, name, group=group, pads=[k // 2] * 4)
        self.layers.append(Layer(name, square=group == 1 and channels == width))
        z = convolved(data, W, group) + b.reshape(-1, 1, 1)
        gamma, beta = rng.uniform(0.5, 1.5, width), rng.standard_normal(width) * 0.3
        gamma[rng.random(width) < 0.1] *= 10.0 ** rng.uniform(-8, -2)  # dead channels
        mean, var = z.mean((0, 2, 3)), np.maximum(z.var((0, 2, 3)), 1e-6)
        mean += rng.standard_normal(width) * 0.1 * np.sqrt(var)
        statistics = (gamma, beta, mean, var * rng.uniform(0.8, 1.25, width))
        pairs = zip(PARAMETERS, statistics, strict=True)
        names = [self.constant(f"{name}.{key}", value) for key, value in pairs]
        output = self.node("BatchNormalization", [name, *names], f"{name}_bn", epsilon=self.epsilon)
        scale = gamma / np.sqrt(statistics[3] + self.epsilon)
        self.values[output] = (z - mean.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)
        self.values[output] += beta.reshape(-1, 1, 1)
        return output

    def relu(self, x: str, output: str) -> str:
        """Add a Relu."""
        self.values[output] = np.maximum(self.values[x], 0.0)
        return self.node("Relu", [x], output)


def convolved(x: Array, W: Array, group: int) -> Array:
    """Return the convolution of `x` that keeps its size."""
    p = W.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, W.shape[2:], (2, 3))
    if group > 1:
        return np.asarray(np.einsum("nchwij,cij->nchw", windows, W[:, 0], optimize=True))
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, W, optimize=True))


@dataclass(frozen=True, slots=True)
class Network:
    """A generated network."""

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    dtype: str


def network(rng: np.random.Generator, kind: str, dtype: str, depth: int) -> Network:
    """Generate a network of `depth` convolutions, one more or less."""
    width = int(rng.integers(4, 17))
    net = Builder(rng, helper.tensor_dtype_to_np_dtype(DTYPES[dtype]),
                  float(rng.choice([1e-5, 1e-3])))  # fmt: skip
    net.values["x"] = rng.standard_normal((4, 3, SIZE, SIZE))
    x = net.relu(net.layer("x", "stem", width), "stem_relu")
    i = 0
    while len(net.layers) < depth:
        y = x
        if kind == "depthwise":
            y = net.relu(net.layer(y, f"d{i}", width, group=width), f"d{i}_relu")
        y = net.layer(y, f"c{i}", width, k=1 if kind == "depthwise" else 3)
        if kind == "residual":
            total = net.values[x] + net.values[y]
            y = net.node("Add", [x, y], f"s{i}")
            net.values[y] = total
        x = net.relu(y, f"r{i}")
        i += 1
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "pooled")], "flat")
    W = net.constant("head.W", rng.standard_normal((10, width)) / math.sqrt(width))
    net.node("Gemm", [x, W], "y", transB=1)
    graph = helper.make_graph(
        net.nodes,
        "network",
        [helper.make_tensor_value_info("x", DTYPES[dtype], ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", DTYPES[dtype], ["batch", 10])],
        net.initializers,
    )
    opsets = [helper.make_opsetid("", 15)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return Network(model, tuple(net.layers), dtype)


# --- faults ----------------------------------------------------------------------------------


class Tensors:
    """The initializers and nodes of a copy of a model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy the model."""
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.nodes = {node.output[0]: node for node in self.model.graph.node}

    def __getitem__(self, name: str) -> Array:
        return numpy_helper.to_array(self.tensors[name])

    def __setitem__(self, name: str, value: Array) -> None:
        stored = value.astype(self[name].dtype)
        self.tensors[name].CopyFrom(numpy_helper.from_array(stored, name))

    def parameters(self, name: str) -> dict[str, Array]:
        """Return a layer's numbers in float64."""
        found = {key: self[f"{name}.{key}"].astype(np.float64) for key in ("W", *PARAMETERS)}
        bias = self.tensors.get(f"{name}.b")
        b = 0.0 * found["mean"] if bias is None else numpy_helper.to_array(bias)
        found["b"] = b.astype(np.float64)
        found["epsilon"] = np.asarray(self.nodes[f"{name}_bn"].attribute[0].f, np.float64)
        return found


def exact(p: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Return a layer's folded weights and bias in float64, and their magnitudes."""
    with np.errstate(divide="ignore"):
        s = p["gamma"] / np.sqrt(p["var"] + p["epsilon"])
    W, b = p["W"] * s.reshape(-1, 1, 1, 1), (p["b"] - p["mean"]) * s + p["beta"]
    return W, b, np.abs(W), (np.abs(p["b"]) + np.abs(p["mean"])) * np.abs(s) + np.abs(p["beta"])


@dataclass(slots=True)
class Case:
    """A network, its correct fold, and where a fault is to be planted."""

    net: Network
    folded: onnx.ModelProto
    regions: tuple[Region, ...]
    rng: np.random.Generator

    def pick(self) -> Layer:
        """Return a layer."""
        return self.net.layers[int(self.rng.integers(len(self.net.layers)))]

    def roundings(self, name: str, dW: Array, db: Array) -> float:
        """Return the size of a change of a layer's folded numbers."""
        _, _, W, b = exact(Tensors(self.net.model).parameters(name))
        info = np.finfo(self.net.dtype)
        u, tiny = float(info.eps) / 2, float(info.tiny)
        return max(
            float(np.max(np.abs(change) / (u * np.maximum(magnitude, tiny))))
            for change, magnitude in ((dW, W), (db, b))
        )

    def deviation(self, name: str, candidate: Tensors) -> float:
        """Return how far a candidate's numbers are from the exact fold, in roundings."""
        W, b, _, _ = exact(Tensors(self.net.model).parameters(name))
        stored = [candidate[key].astype(np.float64) for key in conv_of(candidate, name).input[1:]]
        return self.roundings(name, stored[0] - W, stored[1] - b)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A candidate, the regions of its fold, and the size of its fault in roundings."""

    model: onnx.ModelProto
    regions: Sequence[Region]
    size: float


def refolded(case: Case, tampered: Tensors, names: Sequence[str]) -> Mutant:
    """Fold a copy of the original in which the layers `names` were tampered with."""
    before, folding = Tensors(case.net.model), bnfold.fold(tampered.model, merge=False)
    candidate = Tensors(folding.model)
    changed = deviated = 0.0
    for name in names:
        old, new = exact(before.parameters(name)), exact(tampered.parameters(name))
        changed = max(changed, case.roundings(name, new[0] - old[0], new[1] - old[1]))
        deviated = max(deviated, case.deviation(name, candidate))
    return Mutant(folding.model, folding.regions, min(changed, deviated))


def edited(case: Case, tensors: Tensors, name: str, place: int, value: Array) -> Mutant:
    """Replace weights (`place` 1) or bias (2) of a layer in the folded file."""
    stored = conv_of(tensors, name).input[place]
    old = tensors[stored].astype(np.float64)
    tensors[stored] = value
    change, zero = tensors[stored].astype(np.float64) - old, np.zeros(1)
    changed = case.roundings(name, *((change, zero) if place == 1 else (zero, change)))
    return Mutant(tensors.model, case.regions, min(changed, case.deviation(name, tensors)))


def conv_of(tensors: Tensors, name: str) -> onnx.NodeProto:
    """Return a layer's convolution in the folded model."""
    nodes: Iterable[onnx.NodeProto] = tensors.model.graph.node
    return next(node for node in nodes if node.name == name)


def epsilon(case: Case, *, dropped: bool) -> Mutant:
    """Change the ε of a layer to the other usual one, or to nothing."""
    tampered, layer = Tensors(case.net.model), case.pick()
    attribute = tampered.nodes[f"{layer.name}_bn"].attribute[0]
    attribute.f = 0.0 if dropped else 1e-5 if attribute.f > 1e-4 else 1e-3
    return refolded(case, tampered, [layer.name])


def mean_sign(case: Case) -> Mutant:
    """Add the mean of a layer instead of subtracting it."""
    tampered, layer = Tensors(case.net.model), case.pick()
    tampered[f"{layer.name}.mean"] = -tampered[f"{layer.name}.mean"]
    return refolded(case, tampered, [layer.name])


def scaled(case: Case, delta: float, *, channel: bool) -> Mutant:
    """Multiply γ of a layer, or of one of its channels, by 1 ± delta."""
    tampered, layer = Tensors(case.net.model), case.pick()
    gamma = tampered[f"{layer.name}.gamma"].astype(np.float64)
    where = int(case.rng.integers(gamma.size)) if channel else slice(None)
    gamma[where] *= 1.0 + float(case.rng.choice([-delta, delta]))
    tampered[f"{layer.name}.gamma"] = gamma
    return refolded(case, tampered, [layer.name])


def swapped(case: Case) -> Mutant:
    """Swap all the parameters of two layers."""
    tampered = Tensors(case.net.model)
    pair = case.rng.choice(len(case.net.layers), 2, replace=False)
    a, b = (case.net.layers[i].name for i in pair)
    for key in PARAMETERS:
        first, second = tampered[f"{a}.{key}"], tampered[f"{b}.{key}"]
        tampered[f"{a}.{key}"], tampered[f"{b}.{key}"] = second, first
    return refolded(case, tampered, [a, b])


def bias_lost(case: Case) -> Mutant:
    """Set the folded bias of a layer to zero."""
    tensors, layer = Tensors(case.folded), case.pick()
    bias = tensors[conv_of(tensors, layer.name).input[2]]
    return edited(case, tensors, layer.name, 2, np.zeros_like(bias))


def wrong_axis(case: Case) -> Mutant:
    """Scale the input channels of a layer instead of its output channels."""
    square = [layer for layer in case.net.layers if layer.square]
    layer = square[int(case.rng.integers(len(square)))]
    p = Tensors(case.net.model).parameters(layer.name)
    s = p["gamma"] / np.sqrt(p["var"] + p["epsilon"])
    return edited(case, Tensors(case.folded), layer.name, 1, p["W"] * s.reshape(1, -1, 1, 1))


def through_float16(case: Case) -> Mutant:
    """Round the folded weights of a layer to float16 on the way."""
    tensors, layer = Tensors(case.folded), case.pick()
    W = tensors[conv_of(tensors, layer.name).input[1]]
    return edited(case, tensors, layer.name, 1, W.astype(np.float16))


def rewired(case: Case) -> Mutant:
    """Let a node read a wrong tensor of the right shape."""
    tensors = Tensors(case.folded)
    nodes = [n for n in tensors.model.graph.node if n.op_type in {"Conv", "Relu", "Add"}]
    at = int(case.rng.integers(2, len(nodes)))
    node = nodes[at]
    wrong = [n.output[0] for n in nodes[:at] if n.output[0] not in node.input]
    node.input[0] = wrong[int(case.rng.integers(len(wrong)))]
    return Mutant(tensors.model, case.regions, math.inf)


def node_replaced(case: Case, op_type: str, other: str, **attributes: Any) -> Mutant:  # noqa: ANN401
    """Let a node be another operator, or say something else."""
    tensors = Tensors(case.folded)
    nodes = [n for n in tensors.model.graph.node if n.op_type == op_type]
    node = nodes[int(case.rng.integers(len(nodes)))]
    kept = [a for a in node.attribute if a.name not in attributes]
    node.op_type = other
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return Mutant(tensors.model, case.regions, math.inf)


def ring(case: Case) -> Mutant:
    """Put a ring of small weights around a layer's kernels."""
    tensors, layer = Tensors(case.folded), case.pick()
    node = conv_of(tensors, layer.name)
    W = tensors[node.input[1]]
    grown = np.full((*W.shape[:2], W.shape[2] + 2, W.shape[3] + 2), 1e-2 * np.abs(W).max(), W.dtype)
    grown[:, :, 1:-1, 1:-1] = W
    tensors.tensors[node.input[1]].CopyFrom(numpy_helper.from_array(grown, node.input[1]))
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [pad + 1 for pad in attribute.ints]
        if attribute.name == "kernel_shape":
            attribute.ints[:] = grown.shape[2:]
    return Mutant(tensors.model, case.regions, math.inf)


def row_cut_off(case: Case) -> Mutant:
    """Leave out the last row of what is averaged in the end."""
    tensors = Tensors(case.folded)
    graph = tensors.model.graph
    place = next(i for i, n in enumerate(graph.node) if n.op_type == "GlobalAveragePool")
    whole, names = graph.node[place].input[0], ("starts", "ends", "axes")
    for name, value in zip(names, (0, -1, 2), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    graph.node[place].input[0] = "cut"
    graph.node.insert(place, helper.make_node("Slice", [whole, *names], ["cut"]))
    return Mutant(tensors.model, case.regions, math.inf)


def rounded_on_the_way(case: Case) -> Mutant:
    """Round what a Relu makes to bfloat16, and back."""
    tensors = Tensors(case.folded)
    nodes = tensors.model.graph.node
    places = [i for i, n in enumerate(nodes) if n.op_type == "Relu"]
    place = places[int(case.rng.integers(len(places)))]
    made = nodes[place].output[0]
    nodes[place].output[0] = f"{made}_wide"
    there = helper.make_node("Cast", [f"{made}_wide"], [f"{made}_narrow"], to=TensorProto.BFLOAT16)
    back = helper.make_node("Cast", [f"{made}_narrow"], [made], to=DTYPES[case.net.dtype])
    nodes.insert(place + 1, back)
    nodes.insert(place + 1, there)
    return Mutant(tensors.model, case.regions, math.inf)


def correct(case: Case) -> Mutant:
    """Return the correct fold."""
    tensors = Tensors(case.folded)
    size = max(case.deviation(layer.name, tensors) for layer in case.net.layers)
    return Mutant(case.folded, case.regions, size)


FAULTS: Final[dict[str, Callable[[Case], Mutant]]] = {
    "ε changed": partial(epsilon, dropped=False),
    "ε dropped": partial(epsilon, dropped=True),
    "bias lost": bias_lost,
    "wrong axis": wrong_axis,
    "mean's sign": mean_sign,
    "γ × (1 ± 1e-3), layer": partial(scaled, delta=1e-3, channel=False),
    "γ × (1 ± 1e-3), channel": partial(scaled, delta=1e-3, channel=True),
    "γ × (1 ± 1e-4), layer": partial(scaled, delta=1e-4, channel=False),
    "γ × (1 ± 1e-4), channel": partial(scaled, delta=1e-4, channel=True),
    "γ × (1 ± 1e-5), layer": partial(scaled, delta=1e-5, channel=False),
    "γ × (1 ± 1e-5), channel": partial(scaled, delta=1e-5, channel=True),
    "weights through float16": through_float16,
    "two layers swapped": swapped,
    "consumer rewired": rewired,
    "Relu leaks": partial(node_replaced, op_type="Relu", other="LeakyRelu", alpha=1e-3),
    "Relu left out": partial(node_replaced, op_type="Relu", other="Identity"),
    "largest instead of mean": partial(
        node_replaced, op_type="GlobalAveragePool", other="GlobalMaxPool"
    ),
    "product scaled": partial(node_replaced, op_type="Gemm", other="Gemm", transB=1, alpha=1.001),
    "kernel with a ring": ring,
    "rounded on the way": rounded_on_the_way,
    "last row cut off": row_cut_off,
    "mean over the batch, too": partial(
        node_replaced, op_type="GlobalAveragePool", other="ReduceMean", axes=[0, 2, 3]
    ),
}


# --- judging ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one candidate.

    Attributes:
        network: The number of its network.
        dtype: The network's dtype.
        depth: The network's number of convolutions.
        fault: The fault's name.
        size: The fault's size in roundings; of a correct fold, how far it is from the exact one.
        same: The candidate is the correct fold, to the bit.
        rejected: The judges that rejected the candidate.
        verdicts: bnfold's verdict and its reason, by judge.

    A judge that is neither in `verdicts` nor a rule was not asked.
    """

    network: int
    dtype: str
    depth: int
    fault: str
    size: float
    same: bool
    rejected: frozenset[str]
    verdicts: dict[str, tuple[Verdict, str]]


def outputs(model: onnx.ModelProto, x: Array) -> Array:
    """Run a model without any optimization; return its output in float64."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0]).astype(np.float64)


def study_one(number: int, seed: int, deepest: int = 100) -> list[Result]:
    """Generate a network, fold it correctly and with each fault, and judge all the candidates."""
    rng = np.random.default_rng([seed, number])
    dtype = tuple(DTYPES)[number // len(KINDS) % len(DTYPES)]
    depth = round(5 * (deepest / 5) ** rng.random() ** 2)  # half of them below 11 of 100
    net = network(rng, KINDS[number % len(KINDS)], dtype, depth)
    x = rng.standard_normal((1, 3, SIZE, SIZE)).astype(dtype)
    expected = outputs(net.model, x)
    folding = bnfold.fold(net.model, merge=False)
    case = Case(net, folding.model, folding.regions, rng)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        original, candidate = Path(folder, "original.onnx"), Path(folder, "candidate.onnx")
        original.write_bytes(net.model.SerializeToString())
        with Verifier(original, VerifyOptions(("cpu",), seed=seed)) as verifier:
            for fault, plant in {CORRECT: correct, **FAULTS}.items():
                if fault == "weights through float16" and dtype == "float16":
                    continue
                mutant = plant(case)
                candidate.write_bytes(mutant.model.SerializeToString())
                found = {TOLD: verifier.verify(candidate, mutant.regions)}
                if number // CYCLE % 3 == 0:
                    found[UNTOLD] = verifier.verify(candidate)
                actual = outputs(mutant.model, x)
                rejected = {rule for rule, same in RULES.items() if not same(actual, expected)}
                rejected |= {judge for judge, verification in found.items() if not verification.ok}
                verdicts = {judge: (v.verdict, v.reason) for judge, v in found.items()}
                results.append(
                    Result(number, dtype, len(net.layers), fault, mutant.size,
                           mutant.model == case.folded, frozenset(rejected), verdicts)
                )  # fmt: skip
    return results


def study(networks: int, seed: int, workers: int = 2, deepest: int = 100) -> list[Result]:
    """Study so many networks."""
    one = partial(study_one, seed=seed, deepest=deepest)
    if workers == 1:
        return [result for number in range(networks) for result in one(number)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        found = list(pool.map(one, range(networks)))
    return [result for results in found for result in results]


# --- tables ----------------------------------------------------------------------------------


Row = tuple[str, Sequence[Result]]


def table(first: str, rows: Iterable[Row], count: Callable[[str, Sequence[Result]], object]) -> str:
    """Return a table with what `count` says of each judge and row, without empty rows."""
    lines = [f"| {first} | of | " + " | ".join(JUDGES) + " |"]
    lines.append("| --- |" + " ---: |" * (1 + len(JUDGES)))
    for name, group in rows:
        if group:
            cells = [_cell(judge, group, count) for judge in JUDGES]
            lines.append(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(
    judge: str, group: Sequence[Result], count: Callable[[str, Sequence[Result]], object]
) -> str:
    asked = [r for r in group if was_asked(judge, r)]
    if not asked:
        return "–"
    found = count(judge, asked)
    some = isinstance(found, int) and len(asked) < len(group)
    return f"{found} of {len(asked)}" if some else f"{found}"


def was_asked(judge: str, result: Result) -> bool:
    """Tell whether a judge was asked about a candidate."""
    return judge in RULES or judge in result.verdicts


def by_depth(results: Sequence[Result]) -> list[Row]:
    """Return rows of dtypes and depths."""
    return [
        (f"{dtype}, {max(least, 5)} to {most} layers",
         [r for r in results if r.dtype == dtype and least <= r.depth <= most])
        for dtype in DTYPES for least, most in DEPTHS
    ]  # fmt: skip


def by_fault(results: Sequence[Result]) -> list[Row]:
    """Return rows of faults and dtypes."""
    return [
        (f"{fault}, {dtype}", [r for r in results if r.fault == fault and r.dtype == dtype])
        for fault in FAULTS for dtype in DTYPES
    ]  # fmt: skip


def by_dtype(results: Sequence[Result]) -> list[Row]:
    """Return a row for each dtype."""
    return [(f"**{dtype}**", [r for r in results if r.dtype == dtype]) for dtype in DTYPES]


def accepted(judge: str, group: Sequence[Result]) -> int:
    """Count what a judge let pass."""
    return sum(judge not in r.rejected for r in group)


def largest(judge: str, group: Sequence[Result]) -> str:
    """Return the size of the largest fault that a judge let pass."""
    sizes = [r.size for r in group if judge not in r.rejected]
    return f"{max(sizes):.3g}" if sizes else "none"


def report(results: Sequence[Result]) -> str:
    """Return the tables."""
    folds = [r for r in results if r.fault == CORRECT]
    above = [r for r in results if r.fault != CORRECT and r.size > 1]
    below = [r for r in results if r.fault != CORRECT and r.size <= 1]
    wronged = {(judge, r.network) for r in folds for judge in r.rejected}

    def told_apart(judge: str, group: Sequence[Result]) -> int:
        return sum(judge in r.rejected and (judge, r.network) not in wronged for r in group)

    def wrongly(judge: str, group: Sequence[Result]) -> int:
        return sum(judge in r.rejected for r in group)

    verdicts = Counter((judge, str(r.verdicts[judge][0])) for r in folds for judge in r.verdicts)
    return "\n\n".join([
        "## Correct folds rejected", table("correct folds", by_depth(folds), wrongly),
        *(f"{judge}: " + ", ".join(f"{n} {v}" for (j, v), n in verdicts.items() if j == judge)
          for judge in (TOLD, UNTOLD)),
        f"The largest deviation of a correct fold: {max(r.size for r in folds):.3f} roundings.",
        "## Faults above rounding, missed",
        table("fault", [*by_fault(above), *by_dtype(above)], accepted),
        "The largest that was missed, in roundings:", table("", by_dtype(above), largest),
        "Told apart: the fault was rejected, the correct fold of the same network was not.",
        table("", by_dtype(above), told_apart),
        "## Faults below rounding, passed",
        f"The file is that of the correct fold in {sum(r.same for r in below)} of {len(below)}.",
        table("fault", [*by_fault(below), *by_dtype(below)], accepted),
    ])  # fmt: skip


def main() -> int:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--networks", type=int, default=204)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    results = study(arguments.networks, arguments.seed, arguments.workers)
    print(report(results) + "\n")
    packages = (bnfold, onnx, onnxruntime, np)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    print(f"{len(results)} candidates of {arguments.networks} networks; {versions}")
    for r in results:
        for judge in (TOLD, UNTOLD):
            if was_asked(judge, r) and (judge in r.rejected) == (r.fault == CORRECT or r.size <= 1):
                verdict, reason = r.verdicts[judge]
                print(f"{judge}: network {r.network}, {r.dtype}, {r.fault}, {r.size:.3g} roundings:"
                      f" {verdict}: {reason}", file=sys.stderr)  # fmt: skip
    return int(any(TOLD in r.rejected for r in results if r.fault == CORRECT))


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    sys.exit(main())
