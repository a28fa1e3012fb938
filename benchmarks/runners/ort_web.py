"""Runs a model with onnxruntime-web's WebAssembly in headless Chromium.

`TOOLCHAIN` is the folder that npm has installed it into. What the page needs is served on loopback,
and it sends back what it has computed.
"""

import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from running import Array, Job, main

_PATIENCE = 60  # seconds
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
_PAGE = """<!doctype html><script src="/dist/ort.wasm.min.js"></script><script>
const send = (what) => fetch("/result", {method: "POST", body: JSON.stringify(what)});
(async () => {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/dist/";
  const job = await (await fetch("/job")).json();
  const feeds = {};
  for (const [name, {dims, data}] of Object.entries(job.feeds))
    feeds[name] = new ort.Tensor("float32", Float32Array.from(data), dims);
  const session = await ort.InferenceSession.create("/model", {executionProviders: ["wasm"]});
  const {dims, data} = (await session.run(feeds))[job.output];
  await send({dims, data: Array.from(data)});
})().catch((error) => send({error: String(error)}));
</script>"""


def run(job: Job) -> Array:
    """Return the first output."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise RuntimeError("no Chromium is installed")
    result: dict[str, Any] = {}
    there = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(job, result, there)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        profile = f"--user-data-dir={job.model.parent / 'profile'}"
        address = f"http://127.0.0.1:{server.server_port}/"
        shown = subprocess.Popen(
            [browser, *_QUIET, profile, address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        came = there.wait(_PATIENCE)
        shown.terminate()
        shown.wait()
        server.shutdown()
    if not came:
        raise RuntimeError(f"nothing came back within {_PATIENCE} s")
    if "error" in result:
        raise RuntimeError(result["error"])
    return np.asarray(result["data"], np.float32).reshape(result["dims"])


def _handler(
    job: Job, result: dict[str, Any], there: threading.Event
) -> type[BaseHTTPRequestHandler]:
    """Return what answers the page: the page itself, the library, the model, the inputs."""
    library = Path(os.environ["TOOLCHAIN"], "node_modules", "onnxruntime-web", "dist")
    feeds = {
        name: {"dims": array.shape, "data": array.reshape(-1).tolist()}
        for name, array in job.feeds.items()
    }
    served = {
        "/": _PAGE.encode(),
        "/job": json.dumps({"feeds": feeds, "output": job.output}).encode(),
        "/model": job.model.read_bytes(),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = Path(self.path).name
            known = self.path in served or (library / name).is_file()
            content = served.get(self.path) or ((library / name).read_bytes() if known else b"")
            self.send_response(200 if known else 404)
            kind = _TYPES.get(Path(name).suffix, "text/html" if self.path == "/" else "")
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            result.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            there.set()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    return Handler


main(run)
