"""References: where the numbers of a skeleton's tensors are, in the form of external data.

A reference is an external tensor whose location begins with `PRIVATE`. No file name contains a
NUL, so nothing that a file may say can be taken for one. Three kinds exist:

- `HERE`: a stretch of the opened .onnx file, from `offset` on, `length` bytes;
- `HELD`n: the numbers of the n-th bulk tensor of a model in memory;
- `RECIPE_PREFIX`n: what the n-th recipe will make.

A reference to numbers also says in which field of `TensorProto` they are: `raw_data`, or the
packed `float_data` or `double_data` of older files, whose bytes are the same.
"""

from typing import Final, Self

import onnx

from bnfold.errors import ModelError
from bnfold.files.recipe import PRIVATE
from bnfold.frozen import frozen

HERE: Final = f"{PRIVATE}here"
HELD: Final = f"{PRIVATE}held/"

RAW_DATA: Final = 9
BULK: Final = {
    RAW_DATA: None,
    4: onnx.TensorProto.FLOAT,  # float_data
    10: onnx.TensorProto.DOUBLE,  # double_data
}
"""The fields that hold the numbers' bytes as they are, and for which element type only."""

_DIGITS: Final = 19
"""As many as 2**63 has: a bound for what is parsed at all."""


@frozen
class Reference:
    """Where the numbers of a tensor are.

    Attributes:
        location: A private location, or the data file's.
        offset: The first byte there.
        length: How many bytes; None when the file does not say, which means all the tensor's.
        field: Which field of the tensor holds them in the file.
        explicit: Whether the tensor says `data_location = DEFAULT`, which it need not.
    """

    location: str
    offset: int = 0
    length: int | None = None
    field: int = RAW_DATA
    explicit: bool = False

    @property
    def private(self) -> bool:
        """Whether this is bnfold's own."""
        return self.location.startswith(PRIVATE)

    @classmethod
    def of(cls, tensor: onnx.TensorProto) -> Self:
        """Read the reference of an external tensor.

        Raises:
            ModelError: It has none, or one that cannot be understood.
        """
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key in entries:
                raise ModelError(f"tensor {tensor.name!r} says its {entry.key!r} twice")
            entries[entry.key] = entry.value
        if not entries.get("location"):
            raise ModelError(f"tensor {tensor.name!r} is external and has no location")
        return cls(
            entries["location"],
            _natural(tensor, entries.get("offset", "0")),
            _natural(tensor, entries["length"]) if "length" in entries else None,
            int(entries.get("field", RAW_DATA)) if entries["location"] == HERE else RAW_DATA,
            "explicit" in entries,
        )

    def put(self, tensor: onnx.TensorProto) -> None:
        """Let `tensor` refer to this."""
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": self.location, "offset": str(self.offset)}
        if self.length is not None:
            entries["length"] = str(self.length)
        if self.field != RAW_DATA:
            entries["field"] = str(self.field)
        if self.explicit:
            entries["explicit"] = "1"
        for name, value in entries.items():
            tensor.external_data.add(key=name, value=value)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether the numbers of `tensor` are somewhere else."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _natural(tensor: onnx.TensorProto, text: str) -> int:
    """Read an offset or a length, which ONNX writes as decimal digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ModelError(f"tensor {tensor.name!r} has {text!r} where a byte count belongs")
    return int(text)
