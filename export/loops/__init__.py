"""Loops over time that a module's own forward runs in Python: found, and made recurrent layers.

Rules of this folder: it knows torch and the layers of this house, and no ONNX.
"""
