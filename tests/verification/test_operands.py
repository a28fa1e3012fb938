"""Inputs and attributes that are written in another way, beside others that are not the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proving import proved
from test_deliberate import C, Nodes, Weights, accepted, node, pair
from test_wrong_pairs import step

SHAPE = (1, C, 16, 16)
DICE = np.random.default_rng(7)
INPUT, INNER = 16, 4


def of_a_cell(gates: int) -> Weights:
    return {
        "W": DICE.standard_normal((1, gates * INNER, INPUT)),
        "R": DICE.standard_normal((1, gates * INNER, INNER)),
        "b": DICE.standard_normal((1, 2 * gates * INNER)).astype(np.float32),
    }


def halves(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.split(both, 2, axis=1)
    return first, second


def in_one(both: np.ndarray, off: float = 0.0) -> np.ndarray:
    """Return the two biases added up in the second one, the last number off by so much."""
    first, second = halves(both)
    total = first + second
    total[0, -1] += np.float32(off)
    return np.concatenate([np.zeros_like(total), total], axis=1)


def in_one_but_the_last_gate(both: np.ndarray) -> np.ndarray:
    first, second = halves(both)
    kept = np.arange(first.shape[1]) >= first.shape[1] * 2 // 3
    total = np.where(kept, first, first + second)
    return np.concatenate([total, np.where(kept, second, np.float32(0))], axis=1)


def cell(op_type: str, reads: str = "s Wc Rc bc", **attributes: Any) -> Nodes:
    return [step("Reshape", "d row", "s"), step(op_type, reads, hidden_size=INNER, **attributes)]


def stored(op_type: str, bias: np.ndarray | None = None) -> Weights:
    weights = CELLS[op_type]
    return {
        "Wc": weights["W"], "Rc": weights["R"], "bc": weights["b"] if bias is None else bias,
        "row": np.array([C * 16, 1, INPUT]), "still": np.zeros((1, 1, INNER)),
        "moved": np.eye(INNER)[None, :1],
    }  # fmt: skip


CELLS = {op_type: of_a_cell(gates) for op_type, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))}
LSTM, GRU, RNN = (CELLS[op_type]["b"] for op_type in ("LSTM", "GRU", "RNN"))
FROM_THE_END = np.tile(np.array([-1, 2, -3, 0]).reshape(1, 1, 1, 4), (1, C, 16, 1))
ROWS = np.array([[0, -1, -2], [0, 3, 4]])
QUANTIZED: Weights = {"scale": np.array(0.1), "scales": np.full(16, 0.1), "zero": np.array(3, "i1")}


def quantized(first: int | None, second: int | None, scale: str = "scale") -> Nodes:
    return [
        step("QuantizeLinear", f"d {scale}", "q", axis=first),
        step("DequantizeLinear", f"q {scale}", axis=second),
    ]


Both = tuple[Nodes, Weights]
ALIKE: Mapping[str, tuple[Both, Both]] = {
    "elements from the end": (
        (node("GatherElements", "d", "i", axis=-1), {"i": FROM_THE_END}),
        (node("GatherElements", "d", "i", axis=3), {"i": FROM_THE_END % 16}),
    ),
    "rows from the end": (
        (node("GatherND", "d", "i"), {"i": ROWS}),
        (node("GatherND", "d", "i"), {"i": np.array([[0, 7, 14], [0, 3, 4]])}),
    ),
    "rows of each sample from the end": (
        (node("GatherND", "d", "i", batch_dims=1), {"i": ROWS[None, :, 1:]}),
        (node("GatherND", "d", "i", batch_dims=1), {"i": np.array([[[7, 14], [3, 4]]])}),
    ),
    "an axis from the end": (
        (node("CumSum", "d", "i"), {"i": np.array(-1)}),
        (node("CumSum", "d", "i"), {"i": np.array(3, np.int32)}),
    ),
    "an axis of one scale": ((quantized(0, 1), QUANTIZED), (quantized(None, -1), QUANTIZED)),
    "functions": (
        (cell("LSTM"), stored("LSTM")),
        (cell("LSTM", activations=["Sigmoid", "Tanh", "Tanh"]), stored("LSTM")),
    ),
    "functions of a GRU": (
        (cell("GRU"), stored("GRU")),
        (cell("GRU", activations=["Sigmoid", "Tanh"]), stored("GRU")),
    ),
    "a function": (
        (cell("RNN"), stored("RNN")), (cell("RNN", activations=["Tanh"]), stored("RNN"))
    ),
    "one bias": ((cell("LSTM"), stored("LSTM")), (cell("LSTM"), stored("LSTM", in_one(LSTM)))),
    "one bias of a GRU": ((cell("GRU"), stored("GRU")), (cell("GRU"), stored("GRU", in_one(GRU)))),
    "one bias of an RNN": ((cell("RNN"), stored("RNN")), (cell("RNN"), stored("RNN", in_one(RNN)))),
    "one bias but where it is reset": (
        (cell("GRU", linear_before_reset=1), stored("GRU")),
        (cell("GRU", linear_before_reset=1), stored("GRU", in_one_but_the_last_gate(GRU))),
    ),
    "a state of zeros": (
        (cell("LSTM", "s Wc Rc bc  still still"), stored("LSTM")), (cell("LSTM"), stored("LSTM"))
    ),
    "a bias of zeros": (
        (cell("LSTM"), stored("LSTM", 0 * LSTM)), (cell("LSTM", "s Wc Rc"), stored("LSTM"))
    ),
}  # fmt: skip
UNLIKE: Mapping[str, tuple[Both, Both]] = {
    "another element": (
        (node("GatherElements", "d", "i", axis=-1), {"i": FROM_THE_END}),
        (node("GatherElements", "d", "i", axis=3), {"i": FROM_THE_END % 15}),
    ),
    "elements along another axis": (
        (node("GatherElements", "d", "i", axis=-1), {"i": FROM_THE_END}),
        (node("GatherElements", "d", "i", axis=2), {"i": FROM_THE_END % 16}),
    ),
    "another row": (
        (node("GatherND", "d", "i"), {"i": ROWS}),
        (node("GatherND", "d", "i"), {"i": np.array([[0, 7, 13], [0, 3, 4]])}),
    ),
    "another axis": (
        (node("CumSum", "d", "i"), {"i": np.array(-1)}),
        (node("CumSum", "d", "i"), {"i": np.array(2)}),
    ),
    "another axis of many scales": (
        (quantized(2, 2, "scales"), QUANTIZED), (quantized(3, 3, "scales"), QUANTIZED)
    ),
    "another function": (
        (cell("LSTM"), stored("LSTM")),
        (cell("LSTM", activations=["Sigmoid", "Tanh", "Softsign"]), stored("LSTM")),
    ),
    "another bias": (
        (cell("LSTM"), stored("LSTM")), (cell("LSTM"), stored("LSTM", in_one(LSTM, 1e-6)))
    ),
    "one half of a bias": (
        (cell("LSTM"), stored("LSTM")),
        (cell("LSTM"), stored("LSTM", np.concatenate([halves(LSTM)[0], 0 * halves(LSTM)[1]], 1))),
    ),
    "one bias where it is reset": (
        (cell("GRU", linear_before_reset=1), stored("GRU")),
        (cell("GRU", linear_before_reset=1), stored("GRU", in_one(GRU))),
    ),
    "another state": (
        (cell("LSTM", "s Wc Rc bc  moved moved"), stored("LSTM")), (cell("LSTM"), stored("LSTM"))
    ),
    "another direction": (
        (cell("RNN"), stored("RNN")),
        (cell("RNN", direction="reverse", activations=["Tanh"]), stored("RNN")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ALIKE)
def test_what_is_written_in_another_way_is_proved(tmp_path: Path, how: str) -> None:
    (behind, before), (instead, after) = ALIKE[how]
    proof = proved(tmp_path, *pair(behind, instead, SHAPE, before, after))
    assert accepted(proof), proof.structure.reason


@pytest.mark.parametrize("how", UNLIKE)
def test_what_is_another_one_is_told(tmp_path: Path, how: str) -> None:
    (behind, before), (instead, after) = UNLIKE[how]
    proof = proved(tmp_path, *pair(behind, instead, SHAPE, before, after))
    assert not proof.structure.proved
    assert proof.broken
