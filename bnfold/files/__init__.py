"""Reading and writing models: a tensor is a slice of a file until someone needs its numbers."""

from bnfold.files.leftovers import tidy
from bnfold.files.opened import OpenedModel, from_proto, open_model
from bnfold.files.recipe import FoldOverflow, Literal, NotFinite, Recipe, UnfitNumbers, reference
from bnfold.files.save import copy_model, materialize, save_model, stage
from bnfold.files.scaled import Scaled

__all__ = [
    "FoldOverflow",
    "Literal",
    "NotFinite",
    "OpenedModel",
    "Recipe",
    "Scaled",
    "UnfitNumbers",
    "copy_model",
    "from_proto",
    "materialize",
    "open_model",
    "reference",
    "save_model",
    "stage",
    "tidy",
]
