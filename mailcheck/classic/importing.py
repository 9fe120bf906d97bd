"""An import of FireMail's front end over HTTP: one request there, several commands here, one answer. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from huahuo.mailcheck.classic import classic_zh
from huahuo.mailcheck.sending import Piece, pieces

type Message = Mapping[str, Any]


class Import:
    """The lines of one request. `answered` is told of the reply to each of its commands, in their order."""

    def __init__(self, data: str, mail_type: str) -> None:
        self._data, self._mail_type = data, mail_type
        self._failed: list[dict[str, Any]] = []
        self._parts: list[Piece] = []
        self._replies: list[Message] = []

    def commands(self) -> Iterator[dict[str, Any]]:
        """The fields of each command. The text is cut on the way, so that others have their turns between."""
        for one in pieces(self._data):
            if isinstance(one, int):
                self._failed.append({"line": one, "reason": classic_zh.LINE_TOO_LONG})
            else:
                yield self._command(one)
        if not (self._parts or self._failed):
            yield self._command(Piece(self._data, 1, 0))  # names of columns alone

    def _command(self, part: Piece) -> dict[str, Any]:
        self._parts.append(part)
        return {"data": part.data, "mail_type": self._mail_type}

    def answered(self, reply: Message) -> None:
        """Keep the reply to a command."""
        self._replies.append(reply)

    def reply(self) -> Message:
        """The reply to the whole, or the first refusal where every command was refused."""
        replies = self._replies
        if replies and all(reply["type"] == "error" for reply in replies):
            return replies[0]
        failed = list(self._failed)
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
