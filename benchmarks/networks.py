"""Generated networks for the benchmarks: residual bottlenecks with a BN behind each convolution.

    python benchmarks/networks.py 45 network.onnx              # 45 MB, weights inside
    python benchmarks/networks.py 3000 network.onnx --external  # 3 GB, weights beside it

All sizes have the layers of a ResNet-50, 16 blocks of 1×1, 3×3 and 1×1 convolutions, of one width;
only the width grows. So differences between sizes are differences of bytes, not of nodes. The
weights are random of the usual variance, the statistics look trained. Weights go to the file one
by one, and where they lie goes to `network.onnx.json`, for the program that is the lower bound.
"""

import argparse
import json
from collections.abc import Iterator
from math import isqrt, prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

BLOCKS: Final = 16
ALIGNMENT: Final = 4096
_OPSET: Final = 17
_IR: Final = 8
_RAW_DATA: Final = 9
_DELIMITED: Final = 2
_GRAPH: Final = 7
_INITIALIZER: Final = 5
_PARTS: Final = ("gamma", "beta", "mean", "var")

Floats = NDArray[np.float32]


def width_for(megabytes: float) -> int:
    """Return the bottlenecks' width, a multiple of 4, at which the weights take so many MB."""
    weights = megabytes * 1e6 / 4
    return max(4, round(isqrt(round(weights / (17 * BLOCKS))) / 4) * 4)


def layers(width: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield the name and the weight's shape of every convolution."""
    yield "stem", (4 * width, 3, 3, 3)
    for block in range(BLOCKS):
        yield f"block{block}.reduce", (width, 4 * width, 1, 1)
        yield f"block{block}.conv", (width, width, 3, 3)
        yield f"block{block}.expand", (4 * width, width, 1, 1)


def _normalized(name: str, source: str, kernel: int) -> list[onnx.NodeProto]:
    pads = [kernel // 2] * 4
    strides = [2, 2] if name == "stem" else [1, 1]
    conv = helper.make_node(
        "Conv",
        [source, f"{name}.weight"],
        [f"{name}.product"],
        f"{name}/Conv",
        kernel_shape=[kernel, kernel],
        pads=pads,
        strides=strides,
    )
    statistics = [f"{name}.bn.{part}" for part in _PARTS]
    norm = helper.make_node(
        "BatchNormalization",
        [f"{name}.product", *statistics],
        [f"{name}.normal"],
        f"{name}/BatchNormalization",
    )
    return [conv, norm]


def _relu(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], f"{target}/Relu")


def structure(width: int, image: int) -> onnx.ModelProto:
    """Return the network without its numbers.

    Args:
        width: Of the bottlenecks; the tensors between them have four times as many channels.
        image: Height and width of the input.
    """
    nodes = [*_normalized("stem", "x", 3), _relu("stem.normal", "stem.out")]
    source = "stem.out"
    for block in range(BLOCKS):
        name = f"block{block}"
        nodes += [
            *_normalized(f"{name}.reduce", source, 1),
            _relu(f"{name}.reduce.normal", f"{name}.reduce.out"),
            *_normalized(f"{name}.conv", f"{name}.reduce.out", 3),
            _relu(f"{name}.conv.normal", f"{name}.conv.out"),
            *_normalized(f"{name}.expand", f"{name}.conv.out", 1),
            helper.make_node("Add", [f"{name}.expand.normal", source], [f"{name}.sum"], name),
            _relu(f"{name}.sum", f"{name}.out"),
        ]
        source = f"{name}.out"
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["y"], "pool"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, image, image])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4 * width, 1, 1])
    graph = helper.make_graph(nodes, "bottlenecks", [x], [y])
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR)


def _statistics(random: np.random.Generator, channels: int, *, last: bool) -> list[Floats]:
    """Make γ, β, E and Var of a BN; the last of a block adds little, as in trained networks."""
    values = [
        random.lognormal(-1.5 if last else 0, 0.3, channels),
        random.normal(0, 0.2, channels),
        random.normal(0, 0.2, channels),
        random.lognormal(0, 0.3, channels),
    ]
    return [value.astype(np.float32) for value in values]


def _tensors(width: int) -> Iterator[tuple[str, Floats]]:
    random = np.random.default_rng(0)
    for name, shape in layers(width):
        weight = random.standard_normal(shape, dtype=np.float32)
        weight *= np.float32((2 / prod(shape[1:])) ** 0.5)
        yield f"{name}.weight", weight
        statistics = _statistics(random, shape[0], last=name.endswith("expand"))
        for part, values in zip(_PARTS, statistics, strict=True):
            yield f"{name}.bn.{part}", values


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value % 128 | 128)
        value //= 128
    encoded.append(value)
    return bytes(encoded)


def _head(number: int, length: int) -> bytes:
    """Return what protobuf writes before a nested message or bytes."""
    return _varint(number << 3 | _DELIMITED) + _varint(length)


def _shapes(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and the shape of every initializer, in the order of `_tensors`."""
    for name, shape in layers(width):
        yield f"{name}.weight", shape
        yield from ((f"{name}.bn.{part}", shape[:1]) for part in _PARTS)


Places = list[tuple[int, int]]
"""Offset and length of every weight in the file that holds it."""


def _initializer(name: str, shape: tuple[int, ...]) -> tuple[bytes, int]:
    """Return what stands before the numbers of an initializer, and their length."""
    described = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT).SerializeToString()
    length = 4 * prod(shape)
    tensor = described + _head(_RAW_DATA, length)
    return _head(_INITIALIZER, len(tensor) + length) + tensor, length


def write_inline(target: Path, width: int, image: int) -> Places:
    """Write a network with its numbers inside, tensor by tensor: it may exceed the memory."""
    model = structure(width, image)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    sizes = [_initializer(name, shape) for name, shape in _shapes(width)]
    length = len(graph) + sum(len(head) + size for head, size in sizes)
    places: Places = []
    with target.open("wb") as file:
        file.write(model.SerializeToString() + _head(_GRAPH, length) + graph)
        for (head, size), (_, values) in zip(sizes, _tensors(width), strict=True):
            file.write(head)
            if values.ndim > 1:
                places.append((file.tell(), size))
            file.write(values.data)
    return places


def _append_aligned(file: BinaryIO, values: Floats) -> int:
    file.write(bytes(-file.tell() % ALIGNMENT))
    offset = file.tell()
    file.write(values.data)
    return offset


def write_external(target: Path, width: int, image: int) -> Places:
    """Write a network with its weights in `<target's name>.data` beside it."""
    model = structure(width, image)
    places: Places = []
    data = target.with_name(f"{target.name}.data")
    with data.open("wb") as file:
        for name, values in _tensors(width):
            tensor = TensorProto(name=name, dims=values.shape, data_type=TensorProto.FLOAT)
            if values.ndim > 1:
                offset = _append_aligned(file, values)
                places.append((offset, values.nbytes))
                tensor.data_location = TensorProto.EXTERNAL
                for key, text in (("location", data.name), ("offset", offset)):
                    tensor.external_data.add(key=key, value=str(text))
                tensor.external_data.add(key="length", value=str(values.nbytes))
            else:
                tensor.raw_data = values.tobytes()
            model.graph.initializer.append(tensor)
    target.write_bytes(model.SerializeToString())
    return places


def generate(target: Path, megabytes: float, *, external: bool = False, image: int = 32) -> None:
    """Write a network of some size, and the places of its weights as JSON beside it."""
    width = width_for(megabytes)
    places = (write_external if external else write_inline)(target, width, image)
    holder = f"{target.name}.data" if external else target.name
    listing = {"file": holder, "weights": places}
    target.with_name(f"{target.name}.json").write_text(json.dumps(listing), encoding="utf-8")


def main() -> None:
    """Read the command line and write one network."""
    parser = argparse.ArgumentParser(description="Write a network for the benchmarks.")
    parser.add_argument("megabytes", type=float)
    parser.add_argument("target", type=Path)
    parser.add_argument("--external", action="store_true", help="weights in a data file beside it")
    parser.add_argument("--image", type=int, default=32, help="height and width of the input")
    arguments = parser.parse_args()
    generate(
        arguments.target, arguments.megabytes, external=arguments.external, image=arguments.image
    )


if __name__ == "__main__":
    main()
