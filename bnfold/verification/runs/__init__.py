"""What two models compute on ONNX Runtime, in a child process.

The parent has a `worker`, which starts `child`. That has a `bench` on which the original (the
`baseline`) and the candidate run (`sessions`, on the `providers` that a `trial` found to work),
with inputs that the user gave (`userdata`) or nobody did (`feeds`), and are compared (`compare`,
`decisions`, `float64`, `layers`).
"""
