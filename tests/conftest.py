"""Settings of all property tests."""

from hypothesis import settings

# The same examples in every run, however busy the machine is.
settings.register_profile("bnfold", derandomize=True, deadline=None)
settings.load_profile("bnfold")
