"""What the verifier knows of each ONNX operator, in float64."""
