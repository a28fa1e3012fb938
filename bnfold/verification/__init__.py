"""Proof that two models compute the same but for rounding; trusts nothing that made them.

Importing this package is cheap: ONNX Runtime is imported by a child process, onnx and numpy
when a verification begins.
"""

from typing import TYPE_CHECKING, Any

from bnfold.verification.options import VerifyOptions

if TYPE_CHECKING:
    from bnfold.verification.verdict import Probe, ProviderReport, Structure, Verdict, Verification
    from bnfold.verification.verifier import Verifier, verify

__all__ = [
    "Probe",
    "ProviderReport",
    "Structure",
    "Verdict",
    "Verification",
    "Verifier",
    "VerifyOptions",
    "verify",
]

_HOMES = {"Verifier": "verifier", "verify": "verifier"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Import what was asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'verdict')}"), name)
