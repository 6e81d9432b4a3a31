"""The engine: who runs when, in lanes that are never padded for their neighbours.

Rules of this folder: it knows the runtime's interface and arrays; no HTTP, no sockets, no processes. `plan` and
`cost_model` are pure and are handed the time; `engine` is synchronous; `threaded` lends it a thread.
"""
