"""Serving: a verified bundle behind HTTP, on onnxruntime.

Files of the data's way, in order: `body` and `json_request` (protocol), `input_check` (pure validation), `inference`,
`runtime` with its implementation `onnx_runtime`, `json_response`. `app` composes them, `server` runs the process.
This folder imports `bundle` and must not know torch, onnx, `model` or `export`.
"""
