"""What a caller may choose about folding."""

from bnfold.errors import RequestError
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
        for_quantization: Leave what would take more than 3 dB from a weight's ratio of signal to
            quantization noise as int8, with one scale for each output channel.
        per_tensor: The same with one scale for the whole weight.

    Raises:
        RequestError: `per_tensor` without `for_quantization`.
    """

    bn_only: bool = False
    keep_overridable: bool = False
    merge: bool = True
    take_apart: frozenset[str] = frozenset()
    lift_constants: bool = False
    for_quantization: bool = False
    per_tensor: bool = False

    def __post_init__(self) -> None:
        """Refuse an option that says how to do what is not asked for."""
        if self.per_tensor and not self.for_quantization:
            raise RequestError(
                "per_tensor (--per-tensor) says what for_quantization (--for-quantization) "
                "measures, and needs it"
            )


EVERYTHING = FoldOptions()
"""The default: whatever can be folded is folded."""
