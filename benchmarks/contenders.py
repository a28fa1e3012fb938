"""The programs that bnfold is measured beside, each as one process: `contenders.py NAME IN OUT`.

Each imports what it needs and no more, reads IN and writes OUT, as a user's script would.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_BLOCK: Final = 1 << 18


def onnxruntime_basic(source: Path, target: Path) -> None:
    """Let ONNX Runtime optimize offline, at the level that folds BN, and save the result."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    if has_data(source):
        data = f"{target.name}.data"
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, data)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnxscript_rules(source: Path, target: Path) -> None:
    """Let onnxscript's rewriter apply its BN rules, and only these."""
    import onnx_ir
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import (
        fuse_batchnorm_into_conv_rule,
        fuse_batchnorm_into_conv_transpose_rule,
        fuse_batchnorm_into_gemm_rule,
    )

    rules = [
        fuse_batchnorm_into_conv_rule,
        fuse_batchnorm_into_conv_transpose_rule,
        fuse_batchnorm_into_gemm_rule,
    ]
    folded = rewrite(onnx_ir.load(source), rules)
    onnx_ir.save(folded, target, external_data=f"{target.name}.data" if has_data(source) else None)


def onnxslim_all(source: Path, target: Path) -> None:
    """Let onnxslim do what it does."""
    import onnxslim

    onnxslim.slim(str(source), str(target), save_as_external_data=has_data(source))


def onnxsim_all(source: Path, target: Path) -> None:
    """Let onnxsim do what it does."""
    import onnxsim

    onnxsim.simplify(str(source), output_path=str(target))


def onnxoptimizer_passes(source: Path, target: Path) -> None:
    """Let onnxoptimizer run its passes that fuse and eliminate."""
    import onnx
    import onnxoptimizer

    model = onnx.ModelProto.FromString(source.read_bytes())
    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    target.write_bytes(onnxoptimizer.optimize(model, passes).SerializeToString())


def floor(source: Path, target: Path, *, synced: bool = False) -> None:
    """Do the least that any program must do: copy the bytes, multiply each weight once.

    It is told where the weights are, folds nothing, writes no bias and checks nothing. Prints how
    long the work alone took.
    """
    import numpy as np

    listing = json.loads(source.with_name(f"{source.name}.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    holder = source.with_name(listing["file"])
    copied = target
    if holder != source:
        shutil.copyfile(source, target)
        copied = target.with_name(f"{target.name}.data")
    buffer = np.empty(_BLOCK, np.float32)
    position, size = 0, holder.stat().st_size
    with holder.open("rb", buffering=0) as reader, copied.open("wb", buffering=0) as writer:
        for offset, length in [*listing["weights"], (size, 0)]:
            while position < offset:
                count = offset - position
                position += os.sendfile(writer.fileno(), reader.fileno(), position, count)
            reader.seek(offset)
            for done in range(0, length, buffer.nbytes):
                block = buffer[: min(buffer.nbytes, length - done) // 4]
                reader.readinto(block.view(np.uint8).data)
                np.multiply(block, np.float32(0.5), out=block)
                writer.write(block.data)
            position = offset + length
        worked = time.perf_counter() - start
        if synced:
            os.fsync(writer.fileno())
    print(worked)


def floor_on_disk(source: Path, target: Path) -> None:
    """Do the same, and wait until it is on the disk, as bnfold does."""
    floor(source, target, synced=True)


def has_data(source: Path) -> bool:
    """Return whether a generated model has its weights beside it."""
    return source.with_name(f"{source.name}.data").exists()


CONTENDERS: Final[dict[str, tuple[str | None, Callable[[Path, Path], None]]]] = {
    "onnxruntime": ("onnxruntime", onnxruntime_basic),
    "onnxscript": ("onnxscript", onnxscript_rules),
    "onnxslim": ("onnxslim", onnxslim_all),
    "onnxsim": ("onnxsim", onnxsim_all),
    "onnxoptimizer": ("onnxoptimizer", onnxoptimizer_passes),
    "floor": (None, floor),
    "floor, on the disk": (None, floor_on_disk),
}
"""The package that each needs, and what it does."""


def is_installed(name: str) -> bool:
    """Return whether what a contender needs is there."""
    package, _ = CONTENDERS[name]
    return package is None or find_spec(package) is not None


def main() -> None:
    """Run the contender that the command line names."""
    name, source, target = sys.argv[1:]
    CONTENDERS[name][1](Path(source), Path(target))


if __name__ == "__main__":
    main()
