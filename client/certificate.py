"""Certificates of servers: which are believed, and what helps where one is not.

Rules of this file: light; how a certificate is given is the caller's to say.
"""

import ssl
from typing import Final

from .errors import UnreachableError

# Codes of OpenSSL's x509_vfy.h. What is wrong with the certificate itself, no file of ours mends.
_OTHER_NAMES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def believing(path: str, *, by_name: bool = True) -> ssl.SSLContext:
    """Return a context that believes the certificates of a file.

    Args:
        path: a PEM file; of a chain, the server's own certificate is enough.
        by_name: beside those that the system believes, and only under the names that stand in them; else nobody but
            them, whatever their names.

    Raises:
        OSError: the file cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=None if by_name else path)
    context.load_verify_locations(path)
    context.check_hostname = by_name
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be its own issuer
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a default from 3.13 on that self-made ones may miss
    return context


def distrust_in(err: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a certificate that an error is or comes from; None where it has another reason."""
    while err is not None and not isinstance(err, ssl.SSLCertVerificationError):
        err = err.__cause__ or err.__context__
    return err


def remedy_for(err: ssl.SSLCertVerificationError, trust: str) -> str:
    """Return what helps.

    Args:
        err: the refusal.
        trust: how the caller is told to believe a certificate.
    """
    if err.verify_code in _OTHER_NAMES:
        return "ask under a name that stands in it"
    if err.verify_code in _OF_TIME:
        return "renew it, or set the clock"
    return trust


def untrusted(url: str, err: ssl.SSLCertVerificationError, trust: str) -> UnreachableError:
    """Return the error of a server whose certificate is not trusted; for `trust` see `remedy_for`."""
    found = f"a certificate that is not trusted ({err.verify_message})"
    return UnreachableError(url, found, remedy_for(err, trust))
