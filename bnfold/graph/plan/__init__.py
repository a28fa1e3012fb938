"""Deciding what is folded, as a plan that is pure data."""
