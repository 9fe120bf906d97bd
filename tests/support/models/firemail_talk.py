"""One connection of FireMail's front end, between it and the translator alone."""

from collections.abc import Sequence
from typing import Any

from huahuo.mailcheck.classic.interpreter import FireMail, FireMailTongue

type Said = Sequence[dict[str, Any]]

SIGNED_IN = {"type": "authentication_result", "success": True, "message": "认证成功", "user": {"user_id": 42}}
AT = "2026-01-01T00:00:00Z"


class Talk:
    """One connection, and the clock that both sides see."""

    def __init__(self, tongue: FireMailTongue | None = None) -> None:
        self.tongue = tongue or FireMailTongue()
        made = self.tongue.interpreter({"type": "authenticate", "token": "t"})
        assert made is not None
        self.it: FireMail = made
        self.now_s = 0.0

    def signed_in(self) -> "Talk":
        self.tell(SIGNED_IN)
        return self

    def hear(self, message: object) -> tuple[Said, Said]:
        understood = self.it.hear(message, self.now_s)
        return [dict(one) for one in understood.asked], [dict(one) for one in understood.said]

    def asks(self, message: object) -> dict[str, Any]:
        """What the message comes to, if nothing is answered at once."""
        asked, said = self.hear(message)
        assert not said
        return asked[0]

    def tell(self, message: dict[str, Any]) -> Said:
        return [dict(one) for one in self.it.say(message, self.now_s)]

    def event(self, kind: str, email_id: int = 7, **fields: Any) -> Said:
        body = {"type": kind, "email_id": email_id, "timestamp": AT, **fields}
        return self.tell({**body, "stream": "user/42", "seq": 1})

    def status(self, status: str, message: str = "", **fields: Any) -> Said:
        return self.event("email_status_update", status=status, message=message, check_id=1, **fields)

    def progress(self, progress: int) -> Said:
        return self.event("check_progress", progress=progress, message="", check_id=1)
