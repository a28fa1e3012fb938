"""What a user reads where something is missing: what to do, in plain words, and once."""

from pathlib import Path

import numpy as np
import onnx
from commandline import convolution, run, write
from onnx import helper, numpy_helper


def of_one_size(outputs: int = 1) -> onnx.ModelProto:
    """A network that declares free sizes, and takes pictures of 39 × 43 alone."""
    model = convolution()
    model.graph.node[1].output[0] = "n"
    model.graph.node.append(helper.make_node("Reshape", ["n", "s"], ["y"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4, 37 * 41]), "s"))
    for axis, name in ((2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.output[:]
    names = ["y", *map(str, range(1, outputs))]
    for name in names[1:]:
        model.graph.node.append(helper.make_node("Relu", ["n"], [name]))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def test_a_run_that_needs_sizes_names_the_option(tmp_path: Path) -> None:
    write(of_one_size(), tmp_path / "net.onnx")
    done = run("net.onnx", cwd=tmp_path)
    assert "--shape x=…" in done.text
    assert "[1, 3, H, W]" in done.text
    assert done.text.count("Reshape node") == 1
    assert done.text.count("of the rounding bound") == 1
    assert "ONNXRuntimeError" not in done.text


def test_names_of_outputs_are_quoted(tmp_path: Path) -> None:
    write(of_one_size(outputs=4), tmp_path / "net.onnx")
    done = run("net.onnx", "--provider", "cpu", "--shape", "x=1,3,39,43", cwd=tmp_path)
    assert done.code == 0, done.err
    line = next(line for line in done.text.splitlines() if "of 4 outputs" in line)
    assert any(f"of 4 outputs, '{name}' " in line for name in "y123")
