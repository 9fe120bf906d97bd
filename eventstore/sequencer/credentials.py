"""What a log's address says about secrets: its password, and how its servers prove who they are."""

import ssl
from pathlib import Path

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.port import Misconfigured, Unreachable


class SignInRefused(Unreachable):
    """The log does not let this user in, or has no such database. An administrator can change that."""


def tls_context(address: LogAddress) -> ssl.SSLContext:
    """TLS that verifies the server's certificate and name; with our own certificate if the URL names one.

    Raises:
        Misconfigured: a file that the address names can't be used.
    """
    options = address.options
    try:
        context = ssl.create_default_context(cafile=options.get("sslrootcert") or options.get("ca"))
        if own := options.get("sslcert") or options.get("cert"):
            context.load_cert_chain(own, options.get("sslkey") or options.get("key"))
    except OSError as error:  # ssl.SSLError is one too
        raise Misconfigured(
            f"a certificate of the log's address can't be used: {type(error).__name__}"
        ) from None
    return context


def password_of(address: LogAddress) -> str:
    """The password: in the URL, or the first line of the file that it names.

    Raises:
        Misconfigured: the file can't be read.
    """
    if not (path := address.options.get("password_file")):
        return address.password
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"password_file= can't be read: {type(error).__name__}") from None
