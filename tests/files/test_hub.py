"""Models on a Hugging Face hub, as its own client reads them: from a server on this machine."""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commandline import ENVIRONMENT, MODELS, files, run_command

import bnfold

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: bnfold[test-edge]")

_COMMIT = "a" * 40
_FILE = re.compile(r"/user/repo/resolve/[^/]+/([^?]+)")


class _Hub(BaseHTTPRequestHandler):
    """Answers what reading takes: what the repository is, what it holds, and ranges of a file."""

    def __init__(self, folder: Path, sent: list[int], *asked: object) -> None:
        self._folder, self._sent = folder, sent
        super().__init__(*asked)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        found = _FILE.match(self.path)
        if found:
            self._send_range((self._folder / found[1]).read_bytes())
        elif "/tree/" in self.path:
            self._send_json([_entry(path) for path in sorted(self._folder.iterdir())])
        elif self.path.startswith("/api/models/user/repo"):
            self._send_json({"id": "user/repo", "sha": _COMMIT, "siblings": []})
        else:
            self.send_error(404)

    def _send_json(self, told: object) -> None:
        self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send_range(self, data: bytes) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self._sent.append(len(part))
        self._send(206, part, {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _send(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def _entry(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    return {"type": "file", "path": path.name, "size": size, "oid": f"{size:040}"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let `hf://` lead to a folder here; give how many bytes each answer had."""
    (tmp_path / "repo").mkdir()
    sent: list[int] = []
    answers = partial(_Hub, tmp_path / "repo", sent)
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(ENVIRONMENT, "HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setitem(ENVIRONMENT, "HF_HOME", str(tmp_path / "home"))
        yield sent
        server.shutdown()


def test_a_model_is_read_by_ranges_each_byte_once(tmp_path: Path, hub: list[int]) -> None:
    source = tmp_path / "repo" / "net.onnx"
    weights = os.urandom(1 << 20)
    source.write_bytes(_with_unread(MODELS / "digits.onnx", weights))
    url, here = "hf://user/repo/net.onnx", (sys.executable, "-m", "bnfold")
    checked = run_command([*here, url, "--check", "-q"], cwd=tmp_path)
    assert checked.code == 1, checked.err
    assert sum(hub) < len(weights)
    hub.clear()
    done = run_command([*here, url, "-o", "out.onnx", "--no-verify", "-q"], cwd=tmp_path)
    assert done.code == 0, done.err
    assert sum(hub) == source.stat().st_size
    assert bnfold.verify(source, tmp_path / "out.onnx", options=bnfold.VerifyOptions(time=0))
    assert "out.onnx" in files(tmp_path)


def _with_unread(model: Path, numbers: bytes) -> bytes:
    """Return a model with one more constant, which nothing reads but an output."""
    import numpy as np
    import onnx

    made = onnx.load(model)  # noqa: TID251
    constant = onnx.numpy_helper.from_array(np.frombuffer(numbers, np.uint8), "large")
    made.graph.initializer.append(constant)
    made.graph.node.append(onnx.helper.make_node("Identity", ["large"], ["also"]))
    kind = onnx.TensorProto.UINT8
    made.graph.output.append(onnx.helper.make_tensor_value_info("also", kind, [len(numbers)]))
    data: bytes = made.SerializeToString()
    return data
