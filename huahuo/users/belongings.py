"""What users have, each with a number of its own: API keys and webhooks. Pure."""

from typing import ClassVar

import msgspec

from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.refusals import ChangeRefused


class Belonging(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. The user's name, groups and administration are those of when it was made."""

    user_id: UserId
    username: str
    is_admin: bool = False
    groups: tuple[str, ...] = ()

    @property
    def owner(self) -> Principal:
        """The user for whom it was made, without rights of its own."""
        return Principal(self.user_id, self.username, is_admin=self.is_admin, groups=self.groups)


class Belongings[T: Belonging]:
    """All of them, by number."""

    what: ClassVar = ""

    def __init__(self) -> None:
        self._by_id: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, number: int) -> T | None:
        """That of this number."""
        return self._by_id.get(number)

    def all(self, user_id: UserId | None = None) -> list[T]:
        """Every one by number, ascending; only those of `user_id` if that is given."""
        return [one for one in self._by_id.values() if user_id in (None, one.user_id)]

    def known(self, number: int, only: UserId | None = None) -> T:
        """That of this number, if it is of the user `only`. Raises ChangeRefused."""
        one = self._by_id.get(number)
        if one is None or only not in (None, one.user_id):
            raise ChangeRefused("not_found", f"there is no {self.what} {number}")
        return one


class ListBelongings(msgspec.Struct, frozen=True):
    """Fields of `list_keys` and `list_webhooks`. `everybody`: those of all users (administrators)."""

    everybody: bool = False
