"""What a log's address says about secrets: its password, and how its servers prove who they are."""

import ssl
from pathlib import Path

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.nats_creds import BadCreds, UserKey
from huahuo.eventstore.sequencer.port import Unreachable


class SignInRefused(Unreachable):
    """The log does not let this user in or use its tables, or has no such database.

    An administrator can change that, also while the node runs.
    """


class FileUnusable(Unreachable):
    """A file that the address names can't be used. The text has nothing of what the file holds.

    A running node waits until it can be: somebody may be replacing it.
    """


def tls_context(address: LogAddress) -> ssl.SSLContext:
    """TLS that verifies the server's certificate and name; with our own certificate if the URL names one.

    Raises:
        FileUnusable: see there.
    """
    authority, own, key = _tls_options(address)
    options = address.options
    try:
        context = ssl.create_default_context(cafile=options.get(authority))
    except OSError as error:  # ssl.SSLError is one too
        raise _unusable(authority, error) from None
    if own in options:
        try:
            context.load_cert_chain(options[own], options.get(key), lambda: _locked(key))
        except OSError as error:
            raise _unusable(f"{own}= or {key}" if key in options else own, error) from None
    return context


def password_of(address: LogAddress) -> str:
    """The password: in the URL, or the first line of the file that it names.

    Raises:
        FileUnusable: see there.
    """
    if not (path := address.options.get("password_file")):
        return address.password
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable("password_file", error) from None


def user_key_of(address: LogAddress) -> UserKey | None:
    """The key of the file that `?creds=` names, None if it names none.

    Raises:
        FileUnusable: see there.
    """
    if not (path := address.options.get("creds")):
        return None
    try:
        return UserKey(Path(path).read_bytes())
    except (OSError, BadCreds) as error:
        raise _unusable("creds", error) from None


def tls_refusal(error: Exception, address: LogAddress, said: str = "") -> str:
    """What ended a connection over TLS that was being opened, and the option that may help.

    `said`: the text of an `error` that is none of TLS. A server that refuses our certificate may say so, or
    close the connection without a word.
    """
    authority, own, _ = _tls_options(address)
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"certificate verify failed: {error.verify_message.rstrip('.')}"
        if error.verify_code in _UNKNOWN_AUTHORITY:
            said += f" (?{authority}=FILE names the authority of its certificate)"
        return said
    if isinstance(error, ssl.SSLError):
        said = f"TLS failed: {(error.reason or type(error).__name__).lower().replace('_', ' ')}"
    if own in address.options:
        return f"{said} (it may not take the certificate of ?{own}=: its log says why)"
    return f"{said} (?{own}=FILE names our own certificate, if it asks for one)"


_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""OpenSSL's numbers for a chain that ends in no authority that is trusted here."""


def _tls_options(address: LogAddress) -> tuple[str, str, str]:
    return ("sslrootcert", "sslcert", "sslkey") if address.kind == "postgres" else ("ca", "cert", "key")


def _locked(option: str) -> str:
    """OpenSSL would ask the terminal for a password, and the service would wait for somebody there."""
    raise FileUnusable(f"{option}= can't be used: its key is locked by a password")


def _unusable(option: str, error: Exception) -> FileUnusable:
    why = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    if why is None and isinstance(error, ssl.SSLError):
        why = "it holds no private key"
    if why is None:
        why = str(error) if isinstance(error, BadCreds) else type(error).__name__
    return FileUnusable(f"{option}= can't be used: {why}")
