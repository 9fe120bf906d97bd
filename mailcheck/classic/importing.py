"""An import of FireMail's front end over HTTP: one request there, several commands here, one answer. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.sending import Piece, pieces

type Message = Mapping[str, Any]


class Import:
    """The lines of one request. `commands` in order; `answered` is told of the reply to each."""

    def __init__(self, data: str, mail_type: str) -> None:
        found = list(pieces(data))
        self._failed = [
            {"line": one, "reason": classic_zh.LINE_TOO_LONG} for one in found if isinstance(one, int)
        ]
        self._parts = [one for one in found if isinstance(one, Piece)]
        if not found:
            self._parts = [Piece(data, 1, 0)]  # names of columns alone
        self._mail_type = mail_type
        self._replies: dict[int, Message] = {}

    @property
    def commands(self) -> Sequence[dict[str, Any]]:
        """The fields of each command."""
        return [{"data": part.data, "mail_type": self._mail_type} for part in self._parts]

    def answered(self, number: int, reply: Message) -> bool:
        """Keep the reply to a command. True: all have theirs."""
        self._replies[number] = reply
        return len(self._replies) == len(self._parts)

    def reply(self) -> Message:
        """The reply to the whole, or the first refusal where every command was refused."""
        replies = [self._replies[number] for number in range(len(self._parts))]
        if replies and all(reply["type"] == "error" for reply in replies):
            return replies[0]
        failed: list[dict[str, Any]] = list(self._failed)
        total, success, count = len(failed), 0, len(failed)
        for part, reply in zip(self._parts, replies, strict=True):
            if reply["type"] == "error":  # its lines were not read
                failed.append({"line": part.line, "reason": reply["message"]})
                total, count = total + part.lines, count + part.lines
                continue
            failed += [{**one, "line": part.line + one["line"] - 1} for one in reply["failed_details"]]
            total, success = total + reply["total"], success + reply["success"]
            count += reply["failed"]
        failed.sort(key=lambda one: one["line"])
        result = {"type": "import_result", "total": total, "success": success, "failed": count}
        return {**result, "failed_details": failed}
