"""What is kept in memory of each of many models: what the summary in the end needs, and no more."""

from pathlib import Path

from bnfold.frozen import frozen
from bnfold.many.outcome import Outcome
from bnfold.reports.report import Exit


@frozen
class Brief:
    """What became of one model, in short.

    Attributes:
        source: The model.
        exit_code: The outcome as an exit code.
        written: Whether a model was written.
        existing: Whether it was there already.
        kept: How many batch normalizations the folded model has.
        in_training: Whether nodes stayed because they are in training mode.
    """

    source: Path
    exit_code: Exit
    written: bool
    existing: bool
    kept: int
    in_training: bool = False

    @classmethod
    def of(cls, outcome: Outcome) -> "Brief":
        """Return the outcome in short."""
        existing = outcome.existing is not None
        kept = outcome.report.kept if outcome.report is not None else ()
        in_training = any(record.in_training for record in kept)
        return cls(
            outcome.source, outcome.exit_code, outcome.written, existing, outcome.kept, in_training
        )
