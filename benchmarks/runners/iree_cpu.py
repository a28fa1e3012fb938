"""Compiles a model with IREE for the processor that it is on, and runs it there."""

import iree.runtime
from running import Array, Job, convert, main


def run(job: Job) -> Array:
    """Return the first output."""
    imported, made = job.model.with_suffix(".mlir"), job.model.with_suffix(".vmfb")
    convert(job, "iree-import-onnx", job.model, "--opset-version", "17", "-o", imported)
    convert(
        job,
        "iree-compile", imported, "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
        "-o", made,
    )  # fmt: skip
    module = iree.runtime.load_vm_flatbuffer_file(str(made), driver="local-sync")
    names = module.vm_module.function_names
    name = next(name for name in names if not name.startswith("__") and "$" not in name)

    def infer() -> Array:
        made = module[name](*job.feeds.values())
        first: Array = (made[0] if isinstance(made, tuple | list) else made).to_host()
        return first

    return job.measured(infer)


main(run)
