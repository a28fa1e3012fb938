"""What two files say: a proof, in float64, that needs no runtime.

`prove` matches the models (`matching`, `scopes`) and cuts out what differs (`cut`). `probe`
computes that on `samples` (`evaluate` with `kernels` and `windows`, `magnitude` for the bound), and
`proportion` looks at the weights one by one.
"""
