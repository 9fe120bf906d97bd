"""An application's own accounts: sessions by token, and who is in which room."""

import asyncio
from pathlib import Path
from typing import Any

from huahuo import Huahuo, Principal, Refused
from huahuo.actors.plugins.calls import UserId

ALICE, BOB = "alice@example.com", "bob"


class Accounts:
    """An application's accounts: sessions by token, and who is in which room."""

    def __init__(self) -> None:
        self.users: dict[str, Principal | Refused] = {
            "alice-1": Principal(ALICE, "Alice", groups=("ops",)),
            "bob-1": Principal(BOB),
            "root-1": Principal(1, "root", is_admin=True),
            "locked": Refused("locked", "canary-reason"),
            "old": Refused("token_expired"),
        }
        self.rooms: set[tuple[UserId, str]] = set()
        self.down = False

    async def authenticate(self, token: str) -> Principal | Refused | None:
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionError("the database is gone")
        return self.users.get(token)

    def authorize(self, who: Principal, stream: str, right: str) -> bool:
        return (who.user_id, f"{right} {stream}") in self.rooms

    def let(self, user: UserId, right: str) -> None:
        self.rooms.add((user, right))


def application(tmp_path: Path, accounts: Accounts, **more: Any) -> Huahuo:
    more.setdefault("authenticate", accounts.authenticate)
    return Huahuo(data=tmp_path / "data", port=0, **more)
