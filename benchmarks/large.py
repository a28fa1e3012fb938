"""What a large model takes in memory when it is folded and verified.

    python benchmarks/large.py
    python benchmarks/large.py --megabytes 600 --folder /somewhere/with/room

A network with external data is made: a few large convolutions with batch normalization and large
matrix products behind them. It is folded with verification, and the peak memory of the parent and
of its child is sampled, beside that of a process that loads and runs the original and the folded
model once each at ORT_DISABLE_ALL and ORT_ENABLE_ALL, one session after the other.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from measure import HERE, provenance, run, table
from watched import Watched

_YARDSTICK: Final = "--yardstick"
_MAKE: Final = "--make"
_BLOCK: Final = 1 << 22


def make(path: Path, megabytes: int, channels: int) -> None:
    """Write a network of about `megabytes`, its weights at random, a block at a time."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    tensors: list[onnx.TensorProto] = []
    data = path.with_suffix(".data")
    nodes: list[onnx.NodeProto] = []
    conv, gemm = (channels, channels, 3, 3), (channels, 8 * channels)
    with data.open("wb") as file:

        def weight(name: str, shape: tuple[int, ...], fan: int) -> str:
            tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            count = int(np.prod(shape))
            for key, value in (
                ("location", data.name),
                ("offset", file.tell()),
                ("length", 4 * count),
            ):
                tensor.external_data.add(key=key, value=str(value))
            for start in range(0, count, _BLOCK):
                values = rng.standard_normal(min(_BLOCK, count - start), np.float32)
                file.write((values * np.float32(fan**-0.5)).tobytes())
            tensors.append(tensor)
            return name

        def normalization(read: str, made: str) -> None:
            names = [f"{made}_{part}" for part in ("scale", "shift", "mean", "var")]
            for name in names:
                values = rng.uniform(0.5, 1.5, channels).astype(np.float32)
                tensors.append(onnx.numpy_helper.from_array(values, name))
            nodes.append(helper.make_node("BatchNormalization", [read, *names], [made]))

        size, last = 0.0, "x"
        while size < 0.7 * megabytes:
            index = len(nodes)
            name = weight(f"w{index}", conv, 9 * channels)
            nodes.append(helper.make_node("Conv", [last, name], [f"c{index}"], pads=[1] * 4))
            normalization(f"c{index}", f"n{index}")
            nodes.append(helper.make_node("Relu", [f"n{index}"], [f"r{index}"]))
            size, last = file.tell() / 1e6, f"r{index}"
        nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
        nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
        last = "flat"
        while size < megabytes:
            index = len(nodes)
            wide = weight(f"w{index}", gemm, channels)
            narrow = weight(f"v{index}", gemm[::-1], 8 * channels)
            nodes.append(helper.make_node("Gemm", [last, wide], [f"a{index}"]))
            nodes.append(helper.make_node("Gemm", [f"a{index}", narrow], [f"g{index}"]))
            normalization(f"g{index}", f"m{index}")
            size, last = file.tell() / 1e6, f"m{index}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, 7, 7])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", channels])
    graph = helper.make_graph(nodes, "large", [x], [y], tensors)
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == [_MAKE]:
        make(Path(words[1]), int(words[2]), int(words[3]))
        return
    parser = argparse.ArgumentParser(description="Memory that verification takes.")
    parser.add_argument("--megabytes", type=int, default=2500)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="where to work [default: the system's]")
    arguments = parser.parse_args(words)
    print(provenance())
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bnfold-benchmark-") as name:
        model, folded = Path(name, "large.onnx"), Path(name, "folded.onnx")
        sizes = [str(arguments.megabytes), str(arguments.channels)]
        made = run([sys.executable, Path(__file__), _MAKE, model, *sizes])
        if not made.ok:
            raise SystemExit(made.errors)
        size = model.with_suffix(".data").stat().st_size / 1e6
        bnfold: list[str | Path] = [sys.executable, "-m", "bnfold", "-q", model, "-o", folded]
        alone = Watched([*bnfold, "--no-verify"])
        whole = Watched(bnfold)
        script = HERE / "verify_cost.py"
        sessions = Watched([sys.executable, script, _YARDSTICK, model, folded])
    print(f"\n{size:.0f} MB with a data file:\n")
    head = ["", "time", "parent", "child"]
    rows = [
        ["bnfold --no-verify", f"{alone.wall:.1f} s", f"{alone.parent / 1e6:.0f} MB", ""],
        [
            "bnfold",
            f"{whole.wall:.1f} s",
            f"{whole.parent / 1e6:.0f} MB",
            f"{whole.child / 1e6:.0f} MB",
        ],
        [
            "both models on ONNX Runtime",
            f"{sessions.wall:.1f} s",
            f"{sessions.parent / 1e6:.0f} MB",
            "",
        ],
    ]
    print(table(head, rows))
    print(
        f"\nVerification costs {(whole.wall - alone.wall) / sessions.wall:.2f} times running both."
    )


if __name__ == "__main__":
    main()
