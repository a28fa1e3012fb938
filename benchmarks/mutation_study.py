"""Which faults of a fold are noticed: planted ones, by bnfold's verification and by tolerances.

    python benchmarks/mutation_study.py --networks 200 --seed 0

Each generated network is folded correctly, which must not be called a failure, and then once with
each fault. Faults of the numbers that a fold reads (ε, mean, γ, swapped layers) are planted in a
copy of the original before it is folded, the others in the folded file. bnfold's verification is
told the regions of the fold. The tolerances are those of other tools, on the end-to-end outputs at
ORT_DISABLE_ALL.

A fault is below rounding if no input makes an output of its layer differ by more than one unit
roundoff of the dtype times the output's magnitude: no file of that dtype can be blamed for it.
Since the layer is linear that is a question of single weights: |ΔW| ≤ u·|W·γ/σ| for each, and the
same for the bias; below the smallest normal number, the rounding of that number.
"""

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
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
PARAMETERS: Final = ("gamma", "beta", "mean", "var")
RULES: Final[dict[str, Callable[[Array, Array], bool]]] = {
    "allclose 1e-4 / 1e-5": lambda new, old: np.allclose(new, old, rtol=1e-4, atol=1e-5),
    "allclose 1e-3 / 1e-4": lambda new, old: np.allclose(new, old, rtol=1e-3, atol=1e-4),
    "1e-5 absolute or relative": lambda new, old: _either(new, old, 1e-5),
}
JUDGES: Final = ("bnfold", *RULES)
CORRECT: Final = "none"


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
        [helper.make_tensor_value_info("x", DTYPES[dtype], [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", DTYPES[dtype], [1, 10])],
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

    def below(self, name: str, dW: Array, db: Array) -> bool:
        """Tell whether a change of a layer's folded weights and bias is below rounding."""
        _, _, W, b = exact(Tensors(self.net.model).parameters(name))
        info = np.finfo(self.net.dtype)
        u, tiny = float(info.eps) / 2, float(info.tiny)
        return bool(
            np.all(np.abs(dW) <= u * np.maximum(W, tiny))
            and np.all(np.abs(db) <= u * np.maximum(b, tiny))
        )


@dataclass(frozen=True, slots=True)
class Mutant:
    """A candidate with a fault."""

    model: onnx.ModelProto
    regions: Sequence[Region]
    below: bool


def refolded(case: Case, tampered: Tensors, names: Iterable[str]) -> Mutant:
    """Fold a copy of the original in which the layers `names` were tampered with."""
    before = Tensors(case.net.model)
    below = True
    for name in names:
        old, new = exact(before.parameters(name)), exact(tampered.parameters(name))
        below &= case.below(name, new[0] - old[0], new[1] - old[1])
    folding = bnfold.fold(tampered.model)
    return Mutant(folding.model, folding.plan.regions, below)


def edited(case: Case, tensors: Tensors, layer: Layer, place: int, value: Array) -> Mutant:
    """Replace weights (`place` 1) or bias (2) of a layer in the folded file."""
    name = conv_of(tensors, layer).input[place]
    old = tensors[name].astype(np.float64)
    tensors[name] = value
    change = tensors[name].astype(np.float64) - old
    zero = np.zeros(1)
    below = case.below(layer.name, *((change, zero) if place == 1 else (zero, change)))
    return Mutant(tensors.model, case.regions, below)


def conv_of(tensors: Tensors, layer: Layer) -> onnx.NodeProto:
    """Return a layer's convolution in the folded model."""
    nodes: Iterable[onnx.NodeProto] = tensors.model.graph.node
    return next(node for node in nodes if node.name == layer.name)


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
    bias = tensors[conv_of(tensors, layer).input[2]]
    return edited(case, tensors, layer, 2, np.zeros_like(bias))


def wrong_axis(case: Case) -> Mutant:
    """Scale the input channels of a layer instead of its output channels."""
    square = [layer for layer in case.net.layers if layer.square]
    layer = square[int(case.rng.integers(len(square)))]
    p = Tensors(case.net.model).parameters(layer.name)
    s = p["gamma"] / np.sqrt(p["var"] + p["epsilon"])
    return edited(case, Tensors(case.folded), layer, 1, p["W"] * s.reshape(1, -1, 1, 1))


def through_float16(case: Case) -> Mutant:
    """Round the folded weights of a layer to float16 on the way."""
    tensors, layer = Tensors(case.folded), case.pick()
    W = tensors[conv_of(tensors, layer).input[1]]
    return edited(case, tensors, layer, 1, W.astype(np.float16))


def rewired(case: Case) -> Mutant:
    """Let a node read a wrong tensor of the right shape."""
    tensors = Tensors(case.folded)
    nodes = [n for n in tensors.model.graph.node if n.op_type in {"Conv", "Relu", "Add"}]
    at = int(case.rng.integers(2, len(nodes)))
    node = nodes[at]
    wrong = [n.output[0] for n in nodes[:at] if n.output[0] not in node.input]
    node.input[0] = wrong[int(case.rng.integers(len(wrong)))]
    return Mutant(tensors.model, case.regions, below=False)


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
}


# --- judging ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one candidate.

    Attributes:
        network: The number of its network.
        dtype: The network's dtype.
        fault: The fault's name.
        below: The fault is below rounding.
        rejected: The judges that rejected the candidate.
        verdict: bnfold's verdict.
        reason: Its reason.
    """

    network: int
    dtype: str
    fault: str
    below: bool
    rejected: frozenset[str]
    verdict: Verdict
    reason: str


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
    depth = round(math.exp(rng.uniform(math.log(5), math.log(deepest))))
    net = network(rng, KINDS[number % len(KINDS)], dtype, depth)
    x = rng.standard_normal((1, 3, SIZE, SIZE)).astype(dtype)
    expected = outputs(net.model, x)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        original, candidate = Path(folder, "original.onnx"), Path(folder, "candidate.onnx")
        original.write_bytes(net.model.SerializeToString())
        with Verifier(original, VerifyOptions(("cpu",), seed=seed)) as verifier:
            folding = bnfold.fold(net.model)
            regions = tuple(folding.plan.regions)
            case = Case(net, folding.model, regions, rng)
            for fault in (CORRECT, *FAULTS):
                if fault == "weights through float16" and dtype == "float16":
                    continue
                mutant = (
                    Mutant(folding.model, regions, below=True)
                    if fault == CORRECT
                    else FAULTS[fault](case)
                )
                candidate.write_bytes(mutant.model.SerializeToString())
                found = verifier.verify(candidate, mutant.regions)
                actual = outputs(mutant.model, x)
                rejected = {rule for rule, same in RULES.items() if not same(actual, expected)}
                if found.verdict is Verdict.FAILED or (fault != CORRECT and not found.ok):
                    rejected.add("bnfold")
                results.append(
                    Result(number, dtype, fault, mutant.below, frozenset(rejected),
                           found.verdict, found.reason)
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


def table(results: Sequence[Result], first: str) -> str:
    """Return a table of what each judge missed, a row per fault and dtype."""
    lines = ["| fault | dtype | " + first + " | " + " | ".join(JUDGES) + " |"]
    lines.append("| --- | --- |" + " ---: |" * (1 + len(JUDGES)))
    groups = [(fault, dtype) for fault in FAULTS for dtype in DTYPES]
    for fault, dtype in (*groups, *(("**all**", dtype) for dtype in DTYPES)):
        group = [r for r in results if r.dtype == dtype and fault in {r.fault, "**all**"}]
        if group:
            lines.append(f"| {fault} | {dtype} | {len(group)} | {_missed(group)} |")
    return "\n".join(lines)


def _missed(group: Sequence[Result]) -> str:
    counts = [sum(judge not in r.rejected for r in group) for judge in JUDGES]
    return " | ".join(map(str, counts))


def alarms(results: Sequence[Result]) -> str:
    """Return a table of how many correct folds each judge rejected."""
    lines = ["| | " + " | ".join(JUDGES) + " |", "| --- |" + " ---: |" * len(JUDGES)]
    for dtype in DTYPES:
        group = [r for r in results if r.dtype == dtype]
        counts = [str(sum(judge in r.rejected for r in group)) for judge in JUDGES]
        lines.append(f"| of {len(group)} in {dtype} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = study(arguments.networks, arguments.seed, arguments.workers)
    correct = [r for r in results if r.fault == CORRECT]
    faulty = [r for r in results if r.fault != CORRECT]
    above = [r for r in faulty if not r.below]
    below = [r for r in faulty if r.below]
    print(f"## Correct folds rejected\n\n{alarms(correct)}\n")
    verdicts = Counter(str(r.verdict) for r in correct)
    print("bnfold's verdicts: " + ", ".join(f"{n} {v}" for v, n in verdicts.most_common()) + "\n")
    print(f"## Faults above rounding, missed\n\n{table(above, 'planted')}\n")
    print(f"## Faults below rounding, passed\n\n{table(below, 'planted')}\n")
    packages = (bnfold, onnx, onnxruntime, np)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    print(f"{len(results)} candidates in {time.perf_counter() - start:.0f} s; {versions}")
    alarming = [r for r in correct if "bnfold" in r.rejected]
    missed = [r for r in above if "bnfold" not in r.rejected]
    for r in (*alarming, *missed):
        print(f"network {r.network}, {r.dtype}, {r.fault}: {r.verdict}: {r.reason}",
              file=sys.stderr)  # fmt: skip
    return 1 if alarming else 0


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    sys.exit(main())
