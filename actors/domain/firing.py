"""Timers that are due together, as one append of their entities' decisions."""

from typing import Any

import msgspec

from huahuo.actors.domain import jobs
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.sent import Sent
from huahuo.actors.entities.directory import Directory
from huahuo.actors.timers.timer import Timer

SERVICE = "service"
"""The principal of what timers do."""

type TimerCommands = dict[str, tuple[Entity[Any], msgspec.json.Decoder[Any]]]
"""What timers may send, by kind and stored name."""


class FiredTogether:
    """Timers whose entities decide in the same append. See `huahuo.actors.timers.clockwork.Group`."""

    def __init__(self, directory: Directory, commands: TimerCommands) -> None:
        self._directory = directory
        self._commands = commands
        self._together = directory.together(jobs.KIND, SERVICE)
        self.finish = self._together.finish
        self.submit = self._together.submit
        self.give_up = self._together.give_up

        self._add = self._together.add
        self.full = False
        """See `Group`."""

    def add(self, timer: Timer, command_id: str) -> bool:
        """See `Group`."""
        entity = timer.entity
        inbox = self._directory.resident_inbox(entity)
        if inbox is None:
            return False
        try:
            command = self._commands[f"{entity[: entity.index('/')]}/{timer.command}"][1].decode(timer.fields)
        except (KeyError, msgspec.MsgspecError):  # KeyError: another node's newer code set it
            return False  # `fire` says it
        added = self._add(inbox, Sent(command, None, command_id, None, None, timer), command_id)
        self.full = self._together.full
        return added
