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

# These stay text until they are needed: to compile them takes time at each start.
_END_OF_SENTENCE = r"(?<!\b[A-Z])[.!?]\s+(?=[A-Z])"
"""Not after an initial."""

_PREAMBLES = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"Load model from .*? failed:(?:Load model \S+ failed\. )?",
    r"Fatal error: ",
    r"Exception during (?:initialization|loading): ",
    # A line of its source, and the signature of the function that stands there.
    r"\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ (?:[^()]*::[^()]*\((?:[^()]|\([^()]*\))*\) (?:const )?)?",
    r"[^.]+ was false\. ",  # a condition in C++, with what it means behind it
    r"Invalid model\. ",
)
"""What ONNX Runtime says before it comes to the point, in this order."""

_AT_NODE = (
    r"(?:Non-zero status code returned while running (?P<ran>\w+) node\. Name:'(?P<named>[^']*)' "
    r"Status Message: |Node ?\((?P<name>[^)]*)\) Op \((?P<type>\w+)\) (?:\[\w+\] )?)"
)
"""How it says at which node."""

_ANY_VERSION = "(-1) is not a registered"


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

    What ONNX Runtime says before it is left out, but for the node; what follows it is advice to
    programmers, a dump of the node or a trace of C++ code.
    """
    text = str(error).strip() or type(error).__name__
    line, node = _to_the_point(text.splitlines()[0])
    sentence = re.split(_END_OF_SENTENCE, line, maxsplit=1)[0].strip()
    return f"{node}{sentence.removesuffix('.')}"[:_LONGEST_FOREIGN]


def _to_the_point(line: str) -> tuple[str, str]:
    """Return what is said without its preamble, and at which node, if that is said."""
    node = ""
    for preamble in _PREAMBLES:
        found = re.match(_AT_NODE, line)
        if found is not None:
            named = found["named"] or found["name"]
            node = f"{found['ran'] or found['type']} node{f' {named!r}' if named else ''}: "
            line = line[found.end() :]
        line = re.sub(f"^{preamble}", "", line)
    return line.replace(_ANY_VERSION, _ANY_VERSION.removeprefix("(-1)")), node


class BnfoldError(Exception):
    """Base of every error that bnfold raises on purpose; its text is one clear sentence."""

    def __str__(self) -> str:
        return one_line(str(self.args[0]) if self.args else "")


class RequestError(BnfoldError):
    """The request cannot be carried out as it was put: a bad option, path or target."""


class ModelError(BnfoldError):
    """The model file is not something that bnfold can read: broken, unsafe or too new."""
