"""Who may store more: nobody while the disk is nearly full, and no user beyond its quota."""

from collections.abc import Callable
from typing import Final

import structlog

from huahuo.actors.plugins.calls import Refusal, RefuseGrowth
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.storage.begun import Begun
from huahuo.storage.stage import Stage
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh

RETRY_S: Final = 30.0
"""The `retry_s` of a `storage_full` refusal. Room is made by people or by retention, not within a second."""
_FULL: Final = Refusal(ErrorCode.STORAGE_FULL, zh.STORAGE_FULL, retry_s=RETRY_S)
_NOBODY: Final[frozenset[str]] = frozenset()

_log = structlog.get_logger(__name__)

type Tell = Callable[[RefuseGrowth | None], None]
"""Tells a door what to ask before it stores more; None: nothing, there is room for everybody."""


class Room:
    """Implements `RefuseGrowth`. `over`: the principals that have used up their quota."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.begun: Begun | None = None
        """The users who have begun too many streams. None: they are not counted."""
        self.over: frozenset[str] = _NOBODY
        self.refused = 0
        """Commands, publications and requests that were refused for want of room."""
        self._doors: list[tuple[Tell, bool]] = []

    def refuse(self, principal: str, is_admin: bool = False) -> Refusal | None:
        """Why `principal` may store nothing more now; None: it may. See `RefuseGrowth`."""
        if self.stage.is_low:
            self.refused += 1
            return _FULL
        if principal in self.over:
            self.refused += 1
            return Refusal(ErrorCode.QUOTA_EXCEEDED, zh.QUOTA_EXCEEDED)
        if self.begun is not None and not is_admin and (wait_s := self.begun.wait_s(principal)):
            self.refused += 1
            return Refusal(ErrorCode.RATE_LIMITED, zh.TOO_MANY_STREAMS, retry_s=wait_s)
        return None

    def has_room(self, user_id: UserId) -> bool:
        """Whether work for a user may begin by itself. Nothing is refused, so nothing is counted."""
        return not self.stage.is_low and f"user/{user_id}" not in self.over

    def guard(self, tell: Tell, *, of_users: bool) -> None:
        """Guard a door. `of_users` False: only the service itself comes through it, which has no quota."""
        self._doors.append((tell, of_users))

    def look(self, free_bytes: int) -> None:
        """Note how much of the disk is free."""
        if not self.stage.look(free_bytes):
            return
        if self.stage.is_low:
            _log.warning(
                "disk_nearly_full", free_bytes=free_bytes, low_bytes=self.stage.low_bytes,
                refused="publications, imports, checks and other commands that store more",
            )  # fmt: skip
        else:
            _log.info("disk_has_room_again", free_bytes=free_bytes)
        self._tell()

    def set_over(self, principals: frozenset[str]) -> None:
        """From now on, these principals have used up their quota."""
        if principals != self.over:
            self.over = principals
            self._tell()

    def sentence(self) -> str | None:
        """What `/readyz` adds while the disk is nearly full."""
        stage = self.stage
        if not stage.is_low or stage.free_bytes is None:
            return None
        return (
            f"the disk is nearly full: {stage.free_bytes >> 20} MiB are free, so what would store more is"
            f" refused until {stage.enough_bytes >> 20} MiB are"
        )

    def count_begun(self, per_day: int, ambient: Ambient) -> Begun:
        """Bound the streams that each user begins. Tell the result of each."""
        self.begun = Begun(per_day, ambient, self._tell)
        return self.begun

    @property
    def _began_too_many(self) -> bool:
        return self.begun is not None and bool(self.begun.over)

    def _tell(self) -> None:
        for tell, of_users in self._doors:
            asked = self.stage.is_low or (of_users and bool(self.over or self._began_too_many))
            tell(self.refuse if asked else None)
