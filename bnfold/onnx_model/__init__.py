"""What reads ONNX models by onnx's own means: shape inference, function calls, sizes."""
