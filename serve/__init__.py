"""Serving: verified bundles behind HTTP and gRPC, on onnxruntime.

The way of a request through the files here: `admission` and `body` (who asks, and what comes), `json_request` (the
protocol), `infer_check` with `input_check` (pure validation), `engine` with `runtime` and its implementation
`onnx_runtime`, `infer_answer` with `json_response`. `app` composes them for a frontend, `processes` are the way between
frontends and engine, `server` starts it all. This folder imports `bundle` and must not know torch, onnx, `model` or
`export`.
"""
