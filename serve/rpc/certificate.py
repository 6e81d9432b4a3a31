"""The certificate of gRPC's port, which the library asks for again before every handshake.

Rules of this file: it is asked on threads of the library, which wait for the answer: nothing is read from the disk.
"""

import grpc

from ..gate.tls import ListenerTls


class CertificateGiver:
    """Gives a port the certificate that its process has now.

    Args:
        tls: of the process.
    """

    def __init__(self, tls: ListenerTls) -> None:
        self._tls = tls
        self._given = tls.pair

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port takes."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._given),
            self._fetch,  # type: ignore[arg-type]  # it may return None, as the library's documentation says
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate where it is another one than the library has; None: it is the same."""
        pair = self._tls.pair
        if pair is self._given:
            return None
        self._given = pair
        return _configuration(pair)


def _configuration(pair: tuple[bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    cert, key = pair
    return grpc.ssl_server_certificate_configuration([(key, cert)])
