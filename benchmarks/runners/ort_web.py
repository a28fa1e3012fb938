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
_SENT = {"float32": np.float32, "float16": np.uint16}
"""How numbers go to the page and back: those of float16 as their bits."""
_PAGE = """<!doctype html><script src="/dist/ort.wasm.min.js"></script><script>
const SENT = {float32: Float32Array, float16: Uint16Array};
const send = (what) => fetch("/result", {method: "POST", body: JSON.stringify(what)});
(async () => {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/dist/";
  const job = await (await fetch("/job")).json();
  const feeds = {};
  for (const [name, {dims, type, data}] of Object.entries(job.feeds))
    feeds[name] = new ort.Tensor(type, SENT[type].from(data), dims);
  const session = await ort.InferenceSession.create("/model", {executionProviders: ["wasm"]});
  const {dims, type, data} = (await session.run(feeds))[job.output];
  const took = [];
  for (let t = performance.now(), until = t + 1000 * job.seconds; t < until;) {
    await session.run(feeds);
    took.push((performance.now() - t) / 1000);
    t = performance.now();
  }
  const sent = new SENT[type](data.buffer, data.byteOffset, data.length);
  await send({dims, type, took, data: Array.from(sent)});
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
        came = there.wait(_PATIENCE + job.seconds)
        shown.terminate()
        shown.wait()
        server.shutdown()
    if not came:
        raise RuntimeError(f"nothing came back within {_PATIENCE} s")
    if "error" in result:
        raise RuntimeError(result["error"])
    job.took.extend(result["took"])
    made: Array = np.asarray(result["data"], _SENT[result["type"]]).view(result["type"])
    return made.reshape(result["dims"])


def _handler(
    job: Job, result: dict[str, Any], there: threading.Event
) -> type[BaseHTTPRequestHandler]:
    """Return what answers the page: the page itself, the library, the model, the inputs."""
    library = Path(os.environ["TOOLCHAIN"], "node_modules", "onnxruntime-web", "dist")
    feeds = {
        name: {
            "dims": array.shape,
            "type": str(array.dtype),
            "data": array.reshape(-1).view(_SENT[str(array.dtype)]).tolist(),
        }
        for name, array in job.feeds.items()
    }
    served = {
        "/": _PAGE.encode(),
        "/job": json.dumps({"feeds": feeds, "output": job.output, "seconds": job.seconds}).encode(),
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
