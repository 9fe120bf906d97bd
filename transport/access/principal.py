"""Who a client is, as the parts of the transport and the domains know it. Pure."""

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Who a verified token says you are. `groups` are the names without `group/`."""

    user_id: int
    username: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As written on events: `user/42`."""
        return f"user/{self.user_id}"
