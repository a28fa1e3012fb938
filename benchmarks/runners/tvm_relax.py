"""Compiles a model with TVM for the processor that it is on, and runs it on its virtual machine."""

import onnx
import tvm
from running import Array, Job, main
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx


def run(job: Job) -> Array:
    """Return the first output."""
    model = onnx.load_model_from_string(job.model.read_bytes())
    shapes = {name: [*array.shape] for name, array in job.feeds.items()}
    module = from_onnx(model, shape_dict=shapes, keep_params_in_input=False)
    program = tvm.compile(module, target="llvm")
    machine = relax.VirtualMachine(program, tvm.cpu())
    inputs = [*map(tvm.runtime.tensor, job.feeds.values())]

    def infer() -> Array:
        made = machine["main"](*inputs)
        first: Array = (made if hasattr(made, "numpy") else made[0]).numpy()
        return first

    return job.measured(infer)


main(run)
