"""What a caller may choose about folding."""

from bnfold.frozen import frozen


@frozen
class FoldOptions:
    """What may be folded.

    Attributes:
        bn_only: Fold only runs that contain a BatchNormalization.
        keep_overridable: Treat initializers that a caller may override as unknown.
    """

    bn_only: bool = False
    keep_overridable: bool = False


EVERYTHING = FoldOptions()
"""The default: whatever can be folded is folded."""
