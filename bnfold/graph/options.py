"""What a caller may choose about folding."""

from bnfold.frozen import frozen


@frozen
class FoldOptions:
    """What may be folded.

    Attributes:
        bn_only: Fold only runs that contain a BatchNormalization.
        keep_overridable: Treat initializers that a caller may override as unknown.
        merge: Let branches of one tensor that are added up become one linear operator.
        take_apart: Composites, by their names, into which may be folded although some runtimes
            know them as one operator; `all` for any.
        lift_constants: Write the constants that nodes hold as initializers.
    """

    bn_only: bool = False
    keep_overridable: bool = False
    merge: bool = True
    take_apart: frozenset[str] = frozenset()
    lift_constants: bool = False


EVERYTHING = FoldOptions()
"""The default: whatever can be folded is folded."""
