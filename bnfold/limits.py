"""What a file may make bnfold hold in memory beyond what the file itself holds.

A number that is stored takes as much memory as it takes in the file. But a few bytes can also
*declare*: that an axis has a billion elements, that a weight is the number 1 expanded to any
shape, that a function calls another twice which calls another twice. Each of these has a limit
here, far above what networks need; what goes beyond stays in the model as it is.
"""

from typing import Final

AXIS: Final = 1 << 22
"""Elements along an axis, and values of one affine. No layer is wider."""

RANK: Final = 64
"""Axes of a tensor that is made or computed here: as many as numpy's arrays can have."""

AFFINES: Final = 1 << 23
"""Values of all affines that are held at a time. The widest of networks come to a fiftieth."""

COMPUTED: Final = 1 << 29
"""Bytes of all constants that are computed (ConstantOfShape, Expand, …) for one model, unless it is
so large that it may compute more."""

COMPUTED_GROWTH: Final = 8
"""Times the size of a model's files that its computed constants may have in any case: 4-bit weights
grow by that when they are dequantized."""

CLONED: Final = 1 << 26
"""Elements by which the weights of a folded model may outnumber those that the model stores: a
stored weight that several nodes share is cloned where they need different ones."""

MEASURED: Final = 1 << 26
"""Elements of a weight of which it is measured what it loses as int8; it is read whole for that."""

NODES: Final = 1 << 19
"""Nodes of a model, subgraphs and functions included. The largest of networks have a tenth; each
costs some kilobytes and a fraction of a millisecond."""

STEPS: Final = 1 << 18
"""Steps that all searches of a plan may take, and `STEPS_PER_NODE` more for each node; what is
still to be planned after that stays. Networks take a few for each node (DenseNet-121 takes six)."""

STEPS_PER_NODE: Final = 1 << 6

INLINED: Final = 1 << 16
"""Nodes of a model all of whose functions are inlined."""

NESTED: Final = 64
"""Calls of functions within functions."""

ELEMENTWISE: Final = 1 << 16
"""Elements that an operator may read and make in an evaluator that goes element by element."""

VERIFIED: Final = 1 << 24
"""Elements that such an evaluator may go through for one proof; it takes 1 to 10 µs for each."""
