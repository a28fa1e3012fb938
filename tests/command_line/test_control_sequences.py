"""Nothing that a model's author has written moves a terminal's cursor, or looks like our words."""

import os
import pty
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from commandline import ENVIRONMENT, command
from onnx import TensorProto, helper, numpy_helper

from bnfold.command_line.foreign import made_printable, printable_lines
from bnfold.errors import printable
from bnfold.frozen import frozen

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31mbnfold: all is well\n"

_OURS = re.compile(r"\x1b\[(0|1|3[0-7])m|\x1b\[\?25[lh]|(\r(\x1b\[1A)?)?\x1b\[2K|\r?\n")
"""Colours, the line of progress, and ends of lines (to which a terminal adds a carriage return)."""


def terminal(*words: str, cwd: Path) -> tuple[int, str]:
    """Run bnfold on a terminal; return its exit code and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "COLUMNS": "200", "TERM": "xterm"}
    with subprocess.Popen(
        command(*words), cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                block = os.read(ours, 4096)
            except OSError:  # all others have closed it
                break
            if not block:
                break
            sent += block
    os.close(ours)
    return process.returncode, sent.decode()


def net(wrong: str = "") -> onnx.ModelProto:
    """A network that folds once and keeps once, with names that terminals would obey.

    Args:
        wrong: What is wrong with it: nothing, an operator that nobody has, a node, a reference.
    """
    rng, e = np.random.default_rng(0), EVIL
    nodes = [
        helper.make_node("Conv", [f"x{e}", f"W{e}"], [f"c{e}"], f"conv{e}"),
        helper.make_node("BatchNormalization", [f"c{e}", *"gbmv"], [f"n{e}"], f"bn{e}"),
        helper.make_node("Relu", [f"n{e}"], [f"r{e}"], f"relu{e}"),
        helper.make_node("BatchNormalization", [f"r{e}", *"gbmv"], [f"y{e}"], f"late{e}"),
    ]
    if wrong == "operator":
        nodes.append(helper.make_node(f"Op{e}", [f"n{e}"], [f"z{e}"], f"op{e}", domain=f"d{e}"))
    if wrong == "node":
        nodes[0].attribute.add(name="pads", type=onnx.AttributeProto.INTS, ints=[1])
    shapes = {f"W{e}": (4, 3, 1, 1), **dict.fromkeys("gbmv", (4,))}
    stored = [
        numpy_helper.from_array(rng.uniform(1, 2, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    if wrong == "reference":
        stored[0].ClearField("raw_data")
        stored[0].data_location = TensorProto.EXTERNAL
        stored[0].external_data.add(key="location", value=f"data{e}")
    graph = helper.make_graph(
        nodes,
        f"net{e}",
        [helper.make_tensor_value_info(f"x{e}", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info(f"{name}{e}", TensorProto.FLOAT, None) for name in "yn"],
        stored,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(f"d{e}", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _other(folder: Path) -> None:
    """Write another network, whose weight is another."""
    model = net()
    weight = model.graph.initializer[0]
    weight.raw_data = (numpy_helper.to_array(weight) * np.float32(1.5)).tobytes()
    (folder / "other.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("wrong", "words", "code"),
    [
        ("", ["m.onnx", "-v"], 0),
        ("", ["m.onnx", "other.onnx", "-j", "2", "--check"], 1),
        ("", ["verify", "m.onnx", "other.onnx", "-v"], 3),
        ("operator", ["m.onnx"], 0),
        ("node", ["m.onnx"], 2),
        ("reference", ["m.onnx"], 2),
        ("", ["m.onnx", "--shape", f"{EVIL}=1"], 2),
        ("", [f"m{EVIL}.onnx"], 2),
        ("", ["m.onnx", f"--{EVIL}"], 2),
    ],
)
def test_a_terminal_is_sent_no_foreign_control(
    tmp_path: Path, wrong: str, words: Sequence[str], code: int
) -> None:
    (tmp_path / "m.onnx").write_bytes(net(wrong).SerializeToString())
    _other(tmp_path)
    ended, sent = terminal(*words, cwd=tmp_path)
    assert ended == code, sent
    left = _OURS.sub("", sent)
    assert left.isprintable(), left
    assert not re.search("^bnfold: all is well", sent, re.MULTILINE)
    assert "owned" in sent or words[-1] == "--check"


def test_text_is_made_printable_wherever_it_is() -> None:
    @frozen
    class Inner:
        name: str
        number: float

    value = ({f"a{EVIL}": [Inner(EVIL, 1.5)]}, None, EVIL)
    shown = made_printable(value)
    safe = printable(EVIL)
    assert safe.isprintable()
    assert shown == ({f"a{safe}": [Inner(safe, 1.5)]}, None, safe)
    assert value[2] == EVIL
    assert value[0][f"a{EVIL}"][0].name == EVIL
    assert printable_lines("one\x1b[2J\ntwo") == "one\\x1b[2J\ntwo"
