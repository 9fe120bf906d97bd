"""The user of a client, as the transport and the plug-ins know it. Pure."""

import msgspec

type UserId = int | str
"""The id of a user as the application gives it."""


class Principal(msgspec.Struct, frozen=True):
    """The user that a verified token names. `groups` are names without `group/`."""

    user_id: int
    username: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The user's name on events: `user/42`."""
        return f"user/{self.user_id}"
