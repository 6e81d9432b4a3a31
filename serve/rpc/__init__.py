"""gRPC: the same inference protocol as over HTTP, by its protobuf service.

Rules of this folder: it says how a request looks on this wire and how an answer does; what a request must be is checked
where HTTP's are. It is called `rpc` because a folder called like a third-party package would hide it.
"""
