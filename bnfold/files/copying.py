"""Writing a model that was not edited."""

from pathlib import Path

from bnfold.files.atomic import explained, real_target, unwinding_when_terminated
from bnfold.files.opened import OpenedModel
from bnfold.files.pieces import Slice
from bnfold.files.publish import require_apart, write_one
from bnfold.files.save import save_model


def copy_model(
    opened: OpenedModel,
    target: Path,
    *,
    external_data: bool | None = None,
    share_data: bool = False,
) -> None:
    """Write the model that was opened to `target`, unchanged.

    A copy that nothing is asked of is one byte for byte if it is a single file, or if it comes into
    the same folder, where it reads the same data files. Any other is saved as an edited model is:
    locations are a stranger's words, and no file is written under a name that they give.

    Raises:
        RequestError: The target cannot be written.
        ModelError: The source changed while it was being read.
    """
    real = real_target(target)
    require_apart(opened, real, target)
    in_reach = opened.data is None or opened.data.folder.resolve() == real.parent.resolve()
    as_asked = external_data is None or (not external_data and not opened.locations)
    if opened.file is None or share_data or not as_asked or (opened.locations and not in_reach):
        save_model(
            opened, opened.proto, {}, target, external_data=external_data, share_data=share_data
        )
        return
    with explained(target), unwinding_when_terminated():
        write_one(opened, [Slice(opened.file, 0, opened.file.size)], real, None)
