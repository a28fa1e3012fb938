"""Population statistics of batch normalizations, from data, and switching training mode off.

`find` (`normalizations`) says which normalizations there are and in which mode. `derive`
(`training_network`) writes each out with the statistics of its own batch, which a `runner` computes
on ONNX Runtime for one of the `batches` after the other and `Moments` (`moments`) sums up;
`estimate` is this flow. `freeze` puts statistics into a copy of the model, in inference mode.
"""
