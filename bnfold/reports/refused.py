"""Errors that come with a report: the work was done, and its result refused."""

from bnfold.errors import BnfoldError
from bnfold.reports.report import Report


class _ReportedError(BnfoldError):
    """An error that comes with a report.

    Attributes:
        report: What was folded and what the verification found.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, report)
        self.report = report


class ProviderError(_ReportedError):
    """An execution provider that was asked for by name cannot run; nothing was written.

    Attributes:
        report: What was folded and what the verification found.
    """


class VerificationError(_ReportedError):
    """The folded model does not compute what the original computes; nothing was written.

    Attributes:
        report: What was folded and what the verification found.
    """


class TooManyKeptError(_ReportedError):
    """More batch normalizations remain than the request allows; nothing was written.

    Attributes:
        report: What would be folded, and what is kept and why.
    """
