"""What can go wrong, and whose it is.

`ModelError` and `RequestError` are the user's: a file or an argument that bnfold cannot work
with, said in one sentence. `VerificationError` is ours: a folded model that does not compute
what the original computes. Everything else that escapes is a bug.
"""

import re

_LONGEST = 2000
"""Characters of a message."""

_LONGEST_FOREIGN = 500
"""Characters of a message that are somebody else's."""

_END_OF_SENTENCE = re.compile(r"(?<!\b[A-Z])[.!?]\s+(?=[A-Z])")
"""Not after an initial."""

_NUMBERED = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
"""How ONNX Runtime begins whatever it says."""


def printable(text: str) -> str:
    """Return text without line ends, control sequences and marks that reverse what is read."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def one_line(message: str) -> str:
    """Return a message as one line of bounded length, whatever names a file has put into it."""
    shown = printable(message)
    half = _LONGEST // 2
    return shown if len(shown) <= _LONGEST else f"{shown[:half]} … {shown[-half:]}"


def first_sentence(error: Exception) -> str:
    """Return the first sentence of what another library says, or else what kind of error it is.

    What follows it is advice to programmers, a dump of the node or a trace of C++ code.
    """
    text = _NUMBERED.sub("", str(error).strip())
    line = (text or type(error).__name__).splitlines()[0]
    sentence = _END_OF_SENTENCE.split(line, maxsplit=1)[0].strip()
    return sentence.removesuffix(".")[:_LONGEST_FOREIGN]


class BnfoldError(Exception):
    """Base of every error that bnfold raises on purpose; its text is one clear sentence."""

    def __str__(self) -> str:
        return one_line(str(self.args[0]) if self.args else "")


class RequestError(BnfoldError):
    """The request cannot be carried out as it was put: a bad option, path or target."""


class ModelError(BnfoldError):
    """The model file is not something that bnfold can read: broken, unsafe or too new."""
