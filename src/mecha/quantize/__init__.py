"""From an FP32 model to an INT8 one that any ONNX tool can load."""
