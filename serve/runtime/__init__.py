"""What runs a graph: a narrow interface (runtime), onnxruntime behind it, and the choice of the device.

Beside them the checks that a runtime on this machine computes what was exported: golden_check, bits_check, placement,
tensor_check.
"""
