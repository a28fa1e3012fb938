"""What two files say: a proof, in float64, that needs no runtime.

`prove` matches the models (`matching`, `scopes`) and cuts out what differs (`cone`). `probe`
computes that on `samples` of the size that `receptive_field` gives, and `proportion` looks at the
weights one by one. What they know of each operator is in `bnfold.verification.operators`.
"""
