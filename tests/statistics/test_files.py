"""From data to a folded file, on the command line and in Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from commandline import MODELS, accuracy, load, model_in, run, write
from onnx import TensorProto, helper, numpy_helper
from trained import batches, model, normalization, parameters, truth, two_layers

import bnfold


@pytest.fixture(scope="module")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples that models/digits.onnx was trained on, split off as models/digits.py does."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
    from sklearn.model_selection import train_test_split

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    image, *_ = train_test_split(
        images, labels.astype(np.int64), test_size=360, random_state=0, stratify=labels
    )
    path = tmp_path_factory.mktemp("data") / "train.npz"
    np.savez_compressed(path, image=image)
    return path


def wrecked(net: onnx.ModelProto) -> onnx.ModelProto:
    """The same with statistics that were never right."""
    rng = np.random.default_rng(0)
    names = {name for node in net.graph.node if node.op_type == "BatchNormalization"
             for name in node.input[3:]}  # fmt: skip
    for stored in net.graph.initializer:
        if stored.name in names:
            values = numpy_helper.to_array(stored)
            wrong = (values * rng.uniform(0.2, 5, values.shape)).astype(values.dtype)
            stored.CopyFrom(numpy_helper.from_array(wrong, stored.name))
    return net


def in_training_mode(net: onnx.ModelProto) -> onnx.ModelProto:
    """The same as exported without model.eval()."""
    for node in net.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("training_mode", 1)])
            node.output.extend([f"{node.output[0]}.mean", f"{node.output[0]}.var"])
    return net


@pytest.mark.parametrize("how", [wrecked, in_training_mode])
def test_accuracy_comes_back(how: Any, training_data: Path, tmp_path: Path) -> None:
    original = load(MODELS / "digits.onnx")
    good = accuracy(original)
    broken = how(original)
    if how is wrecked:
        assert accuracy(broken) < good - 0.2
    write(broken, tmp_path / "net.onnx")
    words = ("net.onnx", "--estimate-statistics", training_data, "--batch-size", "64")
    done = run(*words, "--report", "r.json", "--timeout", "100", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "statistics of 8 batch normalizations estimated from 23 batches" in done.text
    assert "8 of 8 batch normalizations folded" in done.text
    assert "verification passed" in done.text
    assert accuracy(load(tmp_path / "net.folded.onnx")) > good - 0.01
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["statistics"]["batches"] == 23
    assert all(
        each["uncertainty"]["value"] < 0.02 for each in report["statistics"]["normalizations"]
    )


def test_training_mode_is_kept_with_both_ways_out(tmp_path: Path) -> None:
    write(two_layers(training=True), tmp_path / "net.onnx")
    done = run("net.onnx", cwd=tmp_path)
    assert done.code == 0
    for option in ("--freeze-training", "--estimate-statistics"):
        assert option in done.text


def test_who_reads_the_statistics_keeps_them_with_that_reason(tmp_path: Path) -> None:
    net = two_layers(training=True)
    net.graph.output.append(helper.make_tensor_value_info("one.1", TensorProto.FLOAT, [4]))
    write(net, tmp_path / "net.onnx")
    for words in ([], ["--freeze-training"]):
        done = run("net.onnx", "--check", "--report", "r.json", *words, cwd=tmp_path)
        assert done.code == len(words)  # the other one is folded once it is frozen
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["kept"][0]["above"]["reason"] == "extra-outputs"


def test_where_nothing_is_in_training_mode_nothing_is_frozen(tmp_path: Path) -> None:
    model_in(tmp_path)
    words = ("digits.onnx", "--freeze-training", "--no-verify", "--report", "r.json")
    remark = "nothing was frozen: no normalization is in training mode"
    assert f"  {remark}\n" in run(*words, cwd=tmp_path).text
    assert json.loads((tmp_path / "r.json").read_text())["notes"] == [remark]


def test_stored_statistics_are_taken_as_they_are(tmp_path: Path) -> None:
    net = two_layers(training=True)
    write(net, tmp_path / "net.onnx")
    done = run("net.onnx", "--freeze-training", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2 of 2 batch normalizations folded" in done.text
    x = batches(1)[0]["x"]
    session = onnxruntime.InferenceSession(
        (tmp_path / "net.folded.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    expected = _inference(net, x)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)


def _inference(net: onnx.ModelProto, x: Any) -> Any:
    """The network with its stored statistics, in float64."""
    stored = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in net.graph.initializer}

    def normalized(y: Any, stem: str, epsilon: float) -> Any:
        gamma, beta, mean, var = (
            stored[f"{stem}.{n}"].reshape(-1, 1, 1) for n in ("gamma", "beta", "mean", "var")
        )
        return gamma * (y - mean) / np.sqrt(var + epsilon) + beta

    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, stored["w1"])
    y = np.maximum(normalized(y, "one", float(np.float32(1e-3))), 0)
    halves = [
        np.einsum("nchw,oc->nohw", part, weight[:, :, 0, 0])
        for part, weight in zip(np.split(y, 2, 1), np.split(stored["w2"], 2), strict=True)
    ]
    y = np.concatenate(halves, axis=1)
    return normalized(y, "two", float(np.float32(1e-5)))


def test_what_does_not_fold_is_written_in_inference_mode(tmp_path: Path) -> None:
    net = model(
        [helper.make_node("Relu", ["x"], ["h"]), normalization("h", "y", "one", training_mode=1)],
        parameters("one", 2, np.random.default_rng(0)),
    )
    source = write(net, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=batches(1)[0]["x"])
    options = bnfold.StatisticsOptions(tmp_path / "data.npz", batch_size=4)
    report = bnfold.fold_file(source, in_place=True, statistics=options)
    assert report.written
    (node,) = (n for n in load(source).graph.node if n.op_type == "BatchNormalization")
    assert not any(a.name == "training_mode" for a in node.attribute)
    stored = {t.name: numpy_helper.to_array(t) for t in load(source).graph.initializer}
    x = np.load(tmp_path / "data.npz")["x"]
    (mean, variance), *_ = truth(net, [{"x": x[:4]}, {"x": x[4:]}]).values()
    np.testing.assert_allclose(stored["one.mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(stored["one.var"], variance, rtol=1e-5)


def test_external_data_and_large_weights(tmp_path: Path) -> None:
    """The network runs on the model's own data files, and the target has one again."""
    net = two_layers(size="S")
    rng = np.random.default_rng(0)
    net.graph.node.insert(0, helper.make_node("Conv", ["x", "big"], ["x0"]))
    net.graph.node[1].input[0] = "x0"
    net.graph.initializer.append(
        numpy_helper.from_array(rng.normal(size=(2, 2, 64, 64)).astype(np.float32) / 64, "big")
    )
    (tmp_path / "in").mkdir()
    onnx.external_data_helper.convert_model_to_external_data(
        net, location="w.bin", size_threshold=64
    )
    onnx.save_model(net, tmp_path / "in" / "net.onnx")  # noqa: TID251 - as others save theirs
    feeds = batches(2, shape=(2, 69, 69))
    (tmp_path / "data").mkdir()
    for number, feed in enumerate(feeds):
        np.savez(tmp_path / "data" / f"{number}.npz", x=feed["x"])
    done = run("in/net.onnx", "--estimate-statistics", "data", "-o", "out.onnx", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "out.onnx.data").exists()


def test_nothing_is_written_where_data_do_not_fit(tmp_path: Path) -> None:
    model_in(tmp_path)
    np.savez(tmp_path / "data.npz", image=np.zeros((4, 1, 9, 8), np.float32))
    done = run("digits.onnx", "--estimate-statistics", "data.npz", cwd=tmp_path)
    assert done.code == 2
    assert "data.npz: 'image' is of shape [4, 1, 9, 8]" in done.err
    assert not (tmp_path / "digits.folded.onnx").exists()
    for words, message in (
        (("--batch-size", "3"), "need --estimate-statistics"),
        (("--estimate-statistics", "data.npz", "--freeze-training"), "exclude each other"),
        (("--freeze-training", "--share-data"), "exclude each other"),
        (("--estimate-statistics", "missing.npz"), "missing.npz"),
    ):
        done = run("digits.onnx", *words, cwd=tmp_path)
        assert done.code == 2
        assert message in done.err
