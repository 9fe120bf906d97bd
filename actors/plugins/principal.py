"""The user of a client, as the transport and the plug-ins know it. Pure."""

import re
from datetime import datetime
from typing import Final

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX

type UserId = int | str
"""The id of a user as the application gives it."""

_TEXT: Final = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
USER_ID_RULE: Final = (
    "a user's id is an integer of magnitude below 2^53, or a text of 1 to 64 letters, digits or _ . @ + -"
)


def user_id_of(given: object) -> UserId | None:
    """A user's id as the service knows it, None if `given` is none.

    Text that spells an integer, as JSON writes it, is that integer: `user/42` is one user.
    """
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return given if abs(given) <= BROWSER_INT_MAX else None
    if not isinstance(given, str) or not _TEXT.fullmatch(given) or given in (".", ".."):
        return None
    if _NUMBER.fullmatch(given) and abs(int(given)) <= BROWSER_INT_MAX:
        return int(given)
    return given


class Principal(msgspec.Struct, frozen=True):
    """The user that a verified token names. `groups` are names without `group/`.

    An application's `authenticate` may leave `username` empty, for the id, and say when the sign-in ends:
    `expires_at`, a moment with a time zone or seconds since 1970.

    `signed_in_ms`: when the user proved who it is; 0: that is not known.
    `rights`: what an API key may do for the user; None for a token, which may do everything. The service sets
    it; `authenticate` leaves it out.
    """

    user_id: UserId
    username: str = ""
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    expires_at: datetime | float | None = None
    signed_in_ms: int = 0
    rights: tuple[str, ...] | None = None

    def may(self, right: str) -> bool:
        """Whether a key has this right. A token has all."""
        return self.rights is None or right in self.rights

    @property
    def name(self) -> str:
        """The user's name on events: `user/42`."""
        return f"user/{self.user_id}"
