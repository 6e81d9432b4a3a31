"""Serving: verified bundles behind HTTP and gRPC, on onnxruntime.

The way of a request through the folders here:

    connection (limits, the hot route) -> gate (who may ask) -> routes, rpc (endpoints) -> infer (bytes to work)
        -> processes (the way to the engine's process) -> engine (planner, lanes), streams (their state) -> runtime

`models` are the bundles that are served, `observe` is what can be known of a server at work. `app` composes a frontend
of HTTP, `server` starts it all, `settings` is what they are told. This folder imports `bundle` and must not know torch,
onnx, `model` or `export`.
"""
