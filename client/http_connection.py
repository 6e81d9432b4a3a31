"""One blocking connection of HTTP, for whoever asks a few questions and needs no httpx.

Rules of this file: light, for the health check of a container uses it; no proxy of the environment stands between.
"""

from http.client import BadStatusLine, HTTPConnection, HTTPSConnection

from .address import Address


def open_later(address: Address, timeout_s: float) -> HTTPConnection:
    """Return a connection that is not open yet; each step on the way may take so many seconds."""
    context = address.tls_context
    if context is None:
        return HTTPConnection(address.host, address.port, timeout=timeout_s)
    return HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)


def hung_up(address: Address, err: Exception) -> bool:
    """Whether the other side ended a conversation without TLS at its first words, as a listener of TLS does."""
    return not address.tls and isinstance(err, ConnectionResetError | BadStatusLine)
