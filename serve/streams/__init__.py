"""Streams that lose nothing: what is kept of each, who may go on with it, and where it is kept.

Rules of this folder: it knows the engine's records and arrays; no HTTP, no asyncio, no processes. `judge`, `table` and
`record_bytes` are pure and are handed the time; only the stores touch files and sockets. A request of a stream is run,
then committed to the store, then answered, in this order, and what is not committed is not answered as done.
"""
