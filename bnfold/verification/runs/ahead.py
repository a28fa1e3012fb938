"""Starting the child process before anything else is imported.

Python, numpy, onnx and ONNX Runtime take it a third of a second. Where it is certain that a model
will be verified, the child imports them while this process imports its own modules.
"""

from bnfold.processes.fork import is_own_process
from bnfold.processes.worker import start_ahead

CHILD = "bnfold.verification.runs.child"
"""The module that the child process runs."""


def start_child_ahead() -> None:
    """Start the child process that the next verification will take, in a process of bnfold's own.

    In another one it might be taken much later, when the environment is another one.
    """
    if is_own_process():
        start_ahead(CHILD)
