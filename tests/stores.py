"""Stores for tests: fsspec's in memory, an object store's server here, a line to it that breaks."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest


@pytest.fixture
def memory() -> Iterator[Any]:
    """Give fsspec's store in memory, empty."""
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec: bnfold[remote]")
    store = fsspec.filesystem("memory")
    _empty(store)
    yield store
    _empty(store)


def _empty(store: Any) -> None:
    store.store.clear()
    store.pseudo_dirs[:] = [""]


class Cutting:
    """A TCP proxy that cuts each of the first connections after so many bytes of an answer."""

    def __init__(self, port: int, cuts: int, after: int) -> None:
        self._port, self._cuts, self._after = port, cuts, after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            limit = self._after
            threading.Thread(target=self._pass, args=(server, client, limit), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, limit: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
                passed += len(data)
                if limit is not None and passed > limit and self.cut < self._cuts:
                    self.cut += 1
                    break
        for side in (one, other):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Start an object store's server; give its port."""
    pytest.importorskip("s3fs", reason="needs s3fs: bnfold[remote]")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def s3(server: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let `s3://` lead to that server, and give the store with a bucket `models`."""
    return bucket(server, monkeypatch)


def bucket(port: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let `s3://` lead to a port, and give the store with a bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    import fsspec

    store_type = fsspec.get_filesystem_class("s3")
    store_type.clear_instance_cache()
    store = store_type()
    store.mkdirs("models", exist_ok=True)
    return store
