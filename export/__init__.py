r"""From a network in PyTorch to a verified bundle: TorchScript, ONNX, the grid of cases, the comparison, the report.

This folder imports model and bundle, and must not know HTTP or anything of serving. Its data path:

    source -> exchange (torch's layers for this house's) -> signature -> lowering -> ONNX graph
                                                                   \-> TorchScript
    cases -> legs (each implementation runs each case) -> compare -> report -> bundle, or a refusal
"""
