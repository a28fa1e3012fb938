"""Many models, in whatever executor there is, each with its own outcome."""
