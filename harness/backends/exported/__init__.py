"""Models exported to a graph and run by ONNX Runtime or OpenVINO on the CPU: `backend=onnx`, `openvino`."""
