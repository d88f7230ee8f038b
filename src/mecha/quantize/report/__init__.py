"""The quantization report: what INT8 changed in a model, measured tensor by tensor and block by block."""
