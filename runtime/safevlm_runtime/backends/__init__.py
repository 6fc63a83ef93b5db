"""What runs a graph: ONNX Runtime, OpenVINO, TensorRT."""
