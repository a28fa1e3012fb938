"""The outcome of a model in a few words, and its colour; neither says more than is true."""

from enum import StrEnum

from bnfold.frozen import frozen
from bnfold.reports.page.numbers import Data
from bnfold.units import counted


class Tone(StrEnum):
    """The colour of an outcome."""

    GOOD = "good"  # all is done, and proved
    FAIR = "fair"  # something is left, or was not looked at
    BAD = "bad"  # it failed
    PLAIN = "plain"  # nothing to judge


@frozen
class Outcome:
    """What became of a model.

    Attributes:
        tone: The colour.
        headline: It in a few words.
    """

    tone: Tone
    headline: str

    @property
    def is_problem(self) -> bool:
        """Whether somebody should look at it."""
        return self.tone in (Tone.BAD, Tone.FAIR)


def outcome(data: Data) -> Outcome:
    """Return the outcome of one entry of a report file."""
    if data["error"]:
        return _failed(data)
    if "candidate" in data:
        return Outcome(Tone.GOOD, "Both models compute the same but for rounding")
    training = sum(kept["above"]["reason"] == "training-mode" for kept in data["kept"])
    if training:
        verb = "is" if training == 1 else "are"
        what = f"{counted(training, 'node')} {verb} in training mode"
        return Outcome(Tone.FAIR, f"{what}, {_folded(data)}" if data["folds"] else what)
    return _done(data) if data["folds"] else _nothing(data)


def _done(data: Data) -> Outcome:
    tone = Tone.FAIR if data["after"]["batch_normalizations"] else Tone.GOOD
    if data["target"] is None:
        return Outcome(Tone.PLAIN if tone is Tone.GOOD else tone, _folded(data))
    if data["verification"] is None:
        return Outcome(Tone.FAIR, f"{_folded(data)}, not verified")
    how = data["verification"]["verdict"].replace("passed", "verified")
    return Outcome(tone, f"{_folded(data)}, {how}")


def _failed(data: Data) -> Outcome:
    verdict = data["verification"]["verdict"] if data.get("verification") else ""
    known = {
        2: "Could not be folded",
        4: "A provider that was asked for cannot run",
        5: "More batch normalizations remain than may",
    }
    headline = known.get(data["exit_code"]) or f"Verification {verdict}"
    if "candidate" not in data and verdict:
        headline += ": nothing was written"
    return Outcome(Tone.BAD, headline)


def _nothing(data: Data) -> Outcome:
    left = data["before"]["batch_normalizations"]
    if left:
        return Outcome(Tone.FAIR, f"None of {counted(left, 'batch normalization')} can be folded")
    also = ", constants are initializers now" if data.get("lifted") else ""
    return Outcome(Tone.PLAIN, f"Nothing to fold{also}")


def _folded(data: Data) -> str:
    """Return how much was folded, or would be."""
    before, after = (data[key]["batch_normalizations"] for key in ("before", "after"))
    how = "folded" if data["target"] is not None else "can be folded"
    if not before:
        number = sum(len(fold["taken"]) for fold in data["folds"])
        return f"{counted(number, 'node')} {how}"
    return f"{before - after} of {counted(before, 'batch normalization')} {how}"
