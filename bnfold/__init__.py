"""bnfold folds batch normalization into convolutions in ONNX models.

    import bnfold

    folding = bnfold.fold(model)                              # ModelProto in, ModelProto out
    verification = folding.verify()                           # is it what model computes?
    report = bnfold.fold_file("net.onnx", "net.folded.onnx")  # and verified
    verification = bnfold.verify("net.onnx", "other.onnx")    # any two models
    for outcome in bnfold.fold_many(pairs): ...               # many files, in many processes

Importing this package is cheap; onnx, numpy and ONNX Runtime are imported when they are needed.
"""

from typing import TYPE_CHECKING, Any

from bnfold.errors import BnfoldError, ModelError, RequestError
from bnfold.version import __version__

if TYPE_CHECKING:
    from bnfold.api import fold_file, verify
    from bnfold.folding import Folding, fold
    from bnfold.many.fold_many import fold_many
    from bnfold.many.outcome import Outcome
    from bnfold.options import options_of
    from bnfold.reports.refused import ProviderError, TooManyKeptError, VerificationError
    from bnfold.reports.report import Report
    from bnfold.statistics.estimate import Estimate
    from bnfold.statistics.interface import estimate_statistics
    from bnfold.statistics.options import StatisticsOptions
    from bnfold.verification import Verification, VerifyOptions

__all__ = [
    "BnfoldError",
    "Estimate",
    "Folding",
    "ModelError",
    "Outcome",
    "ProviderError",
    "Report",
    "RequestError",
    "StatisticsOptions",
    "TooManyKeptError",
    "Verification",
    "VerificationError",
    "VerifyOptions",
    "__version__",
    "estimate_statistics",
    "fold",
    "fold_file",
    "fold_many",
    "options_of",
    "verify",
]

_HOMES = {
    "Estimate": "statistics.estimate",
    "Folding": "folding",
    "Outcome": "many.outcome",
    "ProviderError": "reports.refused",
    "Report": "reports.report",
    "StatisticsOptions": "statistics.options",
    "TooManyKeptError": "reports.refused",
    "Verification": "verification",
    "VerificationError": "reports.refused",
    "VerifyOptions": "verification",
    "estimate_statistics": "statistics.interface",
    "fold": "folding",
    "fold_file": "api",
    "fold_many": "many.fold_many",
    "options_of": "options",
    "verify": "api",
}


def __dir__() -> list[str]:
    """Offer the public names, and no others."""
    return list(__all__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Import what was asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
