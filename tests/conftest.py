"""Settings of all tests."""

import signal

from hypothesis import settings

# A shell lets what it runs in the background ignore Ctrl-C, and what that runs, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however busy the machine is.
settings.register_profile("bnfold", derandomize=True, deadline=None)
settings.load_profile("bnfold")
