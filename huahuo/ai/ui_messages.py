"""An answer as the Vercel AI SDK reads it: its UI message stream, version 1, as server-sent events.

The SDK cannot say where it was: a page that comes back reads from the beginning. What was written by then
comes as one piece.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, cast

import msgspec

from huahuo.actors.domain.decision import Refused
from huahuo.actors.plugins.principal import Principal, UserId, user_id_of
from huahuo.ai.answers import KIND, Answer
from huahuo.embedding.huahuo import Huahuo

UI_MESSAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}
"""The headers of the answer that carries it."""
_TEXT: Final = "text"
_DONE: Final = "data: [DONE]\n\n"


async def ui_message_stream(stream: str, *, app: Huahuo, user: UserId) -> AsyncIterator[str]:
    """The answer on `stream` for `user`, from its beginning to its end.

    Raises Refused: `not_found`, also if it is not this user's.
    """
    key = stream.partition("/")[2]
    found, seq = await app.state(KIND, key)
    state = cast("Answer", found)
    user_id = user_id_of(user)
    if user_id is None or not answer_of(state, Principal(user_id)):
        raise Refused("not_found", "there is no such answer")
    return _parts(app, stream, state, seq)


def answer_of(state: Answer, who: Principal) -> bool:
    """Whether the answer is there for this user."""
    return state.status != "new" and (state.public or state.user == who.user_id)


async def _parts(app: Huahuo, stream: str, state: Answer, seq: int) -> AsyncIterator[str]:
    yield _part(type="start", messageId=stream)
    yield _part(type="text-start", id=_TEXT)
    if state.text:
        yield _part(type="text-delta", id=_TEXT, delta=state.text)
    outcome, error = state.outcome, state.error
    if outcome is None:
        async for event in app.follow(stream, after=seq):
            if event["type"] == "answer_text":
                yield _part(type="text-delta", id=_TEXT, delta=event["text"])
            elif event["type"] == "answer_ended":
                outcome, error = event["outcome"], event["error"]
                break
    yield _part(type="text-end", id=_TEXT)
    if outcome == "failed":
        yield _part(type="error", errorText=error)
    elif outcome in ("cancelled", "interrupted"):
        yield _part(type="abort")
    else:
        yield _part(type="finish")
    yield _DONE


def _part(**members: Any) -> str:
    return f"data: {msgspec.json.encode(members).decode()}\n\n"
