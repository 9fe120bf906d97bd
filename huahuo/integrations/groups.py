"""Sending to a group as in Django Channels: `await group_send(app, "lobby", {"type": "chat.message", …})`.

The message is an event on `group/<name>`: it is durable, and a member that was away gets it later. Tokens, or
`authorize`, say who reads a group, so there is no `group_add`.
"""

from collections.abc import Mapping
from typing import Any

from huahuo.actors.domain.structs import Refused
from huahuo.at import At
from huahuo.embedding.huahuo import Huahuo
from huahuo.publisher import Publisher


async def group_send(app: Huahuo, group: str, message: Mapping[str, Any]) -> At:
    """Send to a group. Raises Refused: the group, the type or a field cannot be."""
    return await app.publish(*_event(group, message))


def group_send_from(publisher: Publisher, group: str, message: Mapping[str, Any]) -> At:
    """The same from another process: a view of Django, a task. Raises as `Publisher.publish`."""
    return publisher.publish(*_event(group, message))


def _event(group: str, message: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    fields = dict(message)
    kind = fields.pop("type", None)
    if not isinstance(kind, str):
        raise Refused("invalid_field", "type: a message needs one, such as `chat.message`")
    return f"group/{group}", kind, fields
