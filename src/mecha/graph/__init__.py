"""ONNX graphs: what a model is, where its decode tail begins, how it is made ready for a session."""
