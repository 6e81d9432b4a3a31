"""The port of gRPC: taken before anything else is done, and kept while the process behind it may change.

Rules of this file: no gRPC, for the supervisor loads none. gRPC's server opens its own socket and takes none that is
handed to it. So a socket that is bound and never listens holds the port: nobody else gets it, and the server's may
share it, for both say SO_REUSEPORT. That it was free was found out by listening on it without.
"""

import socket
from importlib.util import find_spec


def hold_port(proof: socket.socket) -> socket.socket:
    """Return a socket that holds an address for gRPC's server.

    Args:
        proof: listens on the address; closed.
    """
    address = proof.getsockname()
    proof.close()
    holder = socket.socket(proof.family, proof.type, proof.proto)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(address)
    return holder


def missing_package() -> str | None:
    """Return the package that gRPC needs and that is not installed; None: all are."""
    for package, module in (("grpcio", "grpc"), ("protobuf", "google.protobuf")):
        try:
            if find_spec(module) is None:
                return package
        except ModuleNotFoundError:  # not even the folder above it
            return package
    return None
