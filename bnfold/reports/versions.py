"""The versions of bnfold and of what decides its results."""

from bnfold.version import __version__

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


def installed_versions() -> dict[str, str]:
    """Return the versions of bnfold and of what decides its results."""
    versions = {"bnfold": __version__}
    for name in ("onnx", "onnx-graphsurgeon", "numpy"):
        versions[name] = _version(name) or "unknown"
    found = (_version(name) for name in _RUNTIMES)
    versions["onnxruntime"] = next((v for v in found if v), "not installed")
    return versions


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
