"""What each ONNX operator is to a channel affine, as values: no graph, no files."""
