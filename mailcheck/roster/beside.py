"""What sellers and exports put beside an account in a line: a recovery address, a phone number, … Pure.

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
_OWN: Final = 2
"""Fields that each account has: address and password."""
_GRANT: Final = 2
_WHOLE: Final = _OWN + _GRANT


def without(fields: Sequence[str], is_address: Callable[[str], bool]) -> list[str]:
    """The fields of the account alone; all of them, where it is not certain which these are."""
    own, rest = list(fields[:_OWN]), [field for field in fields[_OWN:] if field]
    if not any(map(is_address, own)):
        return list(fields)
    if len(rest) == 1 and is_address(own[0]) and _APP_PASSWORD.fullmatch(rest[0]):
        return [own[0], rest[0]]  # the one of the two that signs in over IMAP
    grant = any(UUID.fullmatch(field) for field in rest)
    forms = (_PHONE, _DATE) if grant and len(fields) <= _WHOLE else (_PHONE, _DATE, _TWO_FACTOR)
    others = [
        field for field in rest if not is_address(field) and not any(form.fullmatch(field) for form in forms)
    ]
    if len(others) == len(rest) or (others and not (grant and len(others) <= _GRANT)):
        return list(fields)
    return own + others


def is_no_client_id(field: str, is_address: Callable[[str], bool]) -> bool:
    """Whether it is surely something else: an address or a phone number."""
    return is_address(field) or _PHONE.fullmatch(field) is not None
