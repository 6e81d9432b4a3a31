r"""From a network in PyTorch to a verified bundle: TorchScript, ONNX, the grid of cases, the comparison, the report.

This folder imports model and bundle, and must not know HTTP or anything of serving. Its data path:

    source -> exportable (one call for every kind of network) -> graph (ONNX)
                                                             \\-> torchscript
    proof: cases -> legs (each implementation runs each case) -> compare -> report -> bundle, or a refusal

`pipeline` is the whole of it. What somebody else wrote becomes exportable in one of three folders: `foreign` (modules
around torch's layers, exchanged for this house's), `loops` (loops over time in a forward, rolled up again), `steps`
(modules that take one step a call). `graph` is the ONNX graph, `proof` holds all forms of a network against each other,
`report_page` shows people what came out; `onnx_source` begins with an ONNX file that somebody has already.
"""
