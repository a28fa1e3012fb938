"""Reading and writing models: a tensor is a slice of a file until someone needs its numbers."""

from bnfold.files.opened import OpenedModel, from_proto, open_model, open_stream
from bnfold.files.pieces import sha256
from bnfold.files.recipe import Literal, Recipe, reference
from bnfold.files.save import copy_model, materialize, save_model, save_stream
from bnfold.files.scaled import RoundingOverflow, Scaled

__all__ = [
    "Literal",
    "OpenedModel",
    "Recipe",
    "RoundingOverflow",
    "Scaled",
    "copy_model",
    "from_proto",
    "materialize",
    "open_model",
    "open_stream",
    "reference",
    "save_model",
    "save_stream",
    "sha256",
]
