"""What this service shows and asks for when it is spoken to over TLS."""

from __future__ import annotations

import ssl

from carina.serving.settings import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or later; with ``ca`` the other side must show a certificate of that authority.

    Raises ``OSError`` (``ssl.SSLError`` is one) for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.ca is not None:
        context.load_verify_locations(tls.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
