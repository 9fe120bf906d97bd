"""Devices that signed in before, each known by a cookie of its own. Pure but for chance, which is passed in.

Guesses of a user's password lock the name, and so the user. A device with which the user has signed in before
is let through: its failures are counted for the device alone.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from huahuo.transport.access.compact import TokenError
from huahuo.transport.access.signed_token import Signer

COOKIE: Final = "huahuo_device"
_KEPT_S: Final = 365 * 86_400
_ID_BYTES: Final = 16


class _Device(msgspec.Struct, frozen=True):
    device: str
    of: str
    """Whose it is, by the key of the name."""


class Devices:
    """Makes and reads the cookies. `token` makes a random text of so many bytes."""

    def __init__(self, signer: Signer, token: Callable[[int], str]) -> None:
        self._signer = signer
        self._token = token

    def made_for(self, key: str) -> str:
        """The value of `Set-Cookie` for a device with which the user of this name has signed in."""
        signed = self._signer.sign(msgspec.json.encode(_Device(self._token(_ID_BYTES), key)))
        return f"{COOKIE}={signed}; Path=/; Max-Age={_KEPT_S}; HttpOnly; SameSite=Strict"

    def known(self, cookies: str, key: str) -> str:
        """Which device of this user sends the header `Cookie`; "": none that is known."""
        for one in cookies.split(";"):
            name, _, value = one.strip().partition("=")
            if name == COOKIE:
                try:
                    found = msgspec.json.decode(self._signer.payload(value), type=_Device)
                except (TokenError, msgspec.DecodeError, UnicodeDecodeError):
                    return ""
                return found.device if found.of == key else ""
        return ""
