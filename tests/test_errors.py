"""Errors: one family, one sentence each."""

import pickle

import pytest

import bnfold
from bnfold.errors import first_sentence
from bnfold.reports.file_record import FileRecord
from bnfold.reports.records import Counts
from bnfold.reports.report import Report

REPORT = Report(
    FileRecord("net.onnx"), None, written=False, before=Counts(2, 1), after=Counts(1, 0)
)


@pytest.mark.parametrize("kind", [bnfold.RequestError, bnfold.ModelError])
def test_the_text_is_the_sentence(kind: type[bnfold.BnfoldError]) -> None:
    assert str(kind("net.onnx: the file is empty")) == "net.onnx: the file is empty"
    assert issubclass(kind, bnfold.BnfoldError)


@pytest.mark.parametrize("kind", [bnfold.VerificationError, bnfold.ProviderError])
def test_some_errors_carry_a_report_through_processes(
    kind: type[bnfold.VerificationError | bnfold.ProviderError],
) -> None:
    error = kind("it differs", REPORT)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is kind
    assert str(again) == "it differs"
    assert again.report == REPORT
    assert isinstance(again, bnfold.BnfoldError)


def test_a_name_from_a_file_neither_breaks_the_line_nor_moves_the_cursor() -> None:
    text = str(bnfold.ModelError("node 'a\nb\x1b[2J\u2028c' " + 100_000 * "x"))
    assert text.isprintable()
    assert text.startswith(r"node 'a\nb\x1b[2J\u2028c' xxx")
    assert len(text) < 3000


RUNTIME_SAYS = "[ONNXRuntimeError] : 1 : FAIL : "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "ValueError"),
        ("one line\nand a trace", "one line"),
        ("Rank must be 3. Please see the documentation.", "Rank must be 3"),
        ("got 1.5 instead of 2 at W. Weight", "got 1.5 instead of 2 at W. Weight"),
        ("no such file: a.onnx", "no such file: a.onnx"),
        (1000 * "x", 500 * "x"),
        (
            (
                f"{RUNTIME_SAYS}Load model from /a b/n.onnx failed:Fatal error: "
                "TRT:EfficientNMS_TRT(-1) is not a registered function/op"
            ),
            "TRT:EfficientNMS_TRT is not a registered function/op",
        ),
        (
            (
                "[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from n.onnx failed:"
                "Load model n.onnx failed. File doesn't exist"
            ),
            "File doesn't exist",
        ),
        (
            (
                f"{RUNTIME_SAYS}Non-zero status code returned while running Reshape "
                "node. Name:'flat' Status Message: /src/reshape_helper.h:91 onnxruntime::Help::"
                "Help(const onnxruntime::Shape&, bool) input_size == size was false. The "
                "input tensor cannot be reshaped to the requested shape. Input shape:{1,4}, …"
            ),
            "Reshape node 'flat': The input tensor cannot be reshaped to the requested shape",
        ),
        (
            (
                f"{RUNTIME_SAYS}Non-zero status code returned while running MatMul "
                "node. Name:'' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch"
            ),
            "MatMul node: Compute MatMul dimension mismatch",
        ),
        (
            (
                f"{RUNTIME_SAYS}Node (m) Op (MatMul) [ShapeInferenceError] "
                "Incompatible dimensions for matrix multiplication"
            ),
            "MatMul node 'm': Incompatible dimensions for matrix multiplication",
        ),
        (
            (
                "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid model. Node input 'z' is not "
                "a graph input, initializer, or output of a previous node."
            ),
            "Node input 'z' is not a graph input, initializer, or output of a previous node",
        ),
    ],
)
def test_of_a_foreign_error_the_first_sentence_is_shown(text: str, shown: str) -> None:
    assert first_sentence(ValueError(text)) == shown
