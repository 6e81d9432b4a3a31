"""Connections of HTTP below ASGI: limits, refusals, the end, and the hot route.

uvicorn's protocol with bounds (guarded_protocol), clients that don't do their part (connection_sweep, connection_end),
and requests that are answered by the connection's own callbacks (hot_protocol and the files named after it); which of
these a server takes is hot_surface's choice. Whatever the hot route answers, it answers with the bytes of the routes.
"""
