"""What sellers and exports add to an account in a line: a recovery address, a phone number, … Pure.

None of it is a client id or a refresh token. It is left out where the rest of the line is certain.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The form of a client id."""
_PHONE: Final = re.compile(r"\+?\d(?:[ ().-]{0,2}\d){6,14}")
_DATE: Final = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}(?:[ T]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?)?")
_APP_PASSWORD: Final = re.compile(r"[a-z]{4}([ -])[a-z]{4}\1[a-z]{4}\1[a-z]{4}")
_TWO_FACTOR: Final = re.compile(
    r"[A-Z2-7]{16}(?:[A-Z2-7]{8,48})?|[a-z2-7]{32}|(?:[A-Za-z2-7]{4} ){3,15}[A-Za-z2-7]{4}"
)
"""Secrets of authenticator apps: base32, also in groups of four."""
PORT: Final = re.compile(r"[0-9]{1,5}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.){1,9}[A-Za-z]{2,24}")
_OF_GOOGLE: Final = ".apps.googleusercontent.com"
"""A client id ends so, and looks like a host."""
_OWN: Final = 2
"""Fields that each account has: address and password."""
_GRANT: Final = 2
_WHOLE: Final = _OWN + _GRANT
TOKEN_CHARS_MIN: Final = 40
"""A field that is longer is a refresh token rather than a password."""


def without(fields: Sequence[str], is_address: Callable[[str], bool]) -> list[str]:
    """The fields of the account alone; all of them, where it is not certain which these are."""
    own, rest = list(fields[:_OWN]), [field for field in fields[_OWN:] if field]
    if not any(map(is_address, own)):
        return list(fields)
    grant = any(UUID.fullmatch(field) for field in rest)
    if grant and any(len(field) > TOKEN_CHARS_MIN and not is_address(field) for field in own):
        return list(fields)  # the password is one of the others, and may look like anything
    forms = (_PHONE, _DATE) if grant and len(fields) <= _WHOLE else (_PHONE, _DATE, _TWO_FACTOR)
    others = [
        field for field in rest if not is_address(field) and not any(form.fullmatch(field) for form in forms)
    ]
    app = [] if grant else [field for field in rest if _APP_PASSWORD.fullmatch(field)]
    if len(app) == 1 and not set(others).difference(app):
        return [next(filter(is_address, own)), *app]  # of the passwords the one that signs in over IMAP
    if len(others) == len(rest) or (others and not (grant and len(others) <= _GRANT)):
        return list(fields)
    return own + others


def server_of(fields: Sequence[str]) -> tuple[str, int] | None:
    """The server in the place of a grant: `host:port`, or a host and a port. None: it is none."""
    if not _OWN < len(fields) <= _WHOLE:
        return None
    host, _, port = fields[_OWN].partition(":")
    ports = [one for one in (port, *fields[_OWN + 1 :]) if one]
    is_server = len(ports) == 1 and PORT.fullmatch(ports[0]) and _HOST.fullmatch(host)
    return (host, int(ports[0])) if is_server else None


def is_no_client_id(field: str, is_address: Callable[[str], bool]) -> bool:
    """Whether it is surely something else: an address, a phone number, a server or a port."""
    host = field.partition(":")[0]
    return (
        is_address(field)
        or any(form.fullmatch(field) for form in (_PHONE, PORT))
        or (_HOST.fullmatch(host) is not None and not host.endswith(_OF_GOOGLE))
    )
