"""Carrying a plan out on a copy of the model; the one editor is here."""
