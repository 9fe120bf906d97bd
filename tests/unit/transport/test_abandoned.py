"""Which messages of a client that is gone are passed over."""

import pytest

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Reply
from huahuo.transport.session.session import BYTES_MAX, only_asks
from tests.support.worlds.gates import Handler, spec

HANDLER = Handler(Reply(b"{}"))
SPECS: dict[str, Action] = {"list": spec(HANDLER, query=True), "add": spec(HANDLER)}


@pytest.mark.parametrize(
    "text",
    [
        '{"action": "list", "id": "1"}',
        b'{"id":"1","action":"list"}',
        '{"action":"subscribe","stream":"user/42","after":"snapshot"}',
        '{"action":"heartbeat"}',
    ],
)
def test_what_only_asks_is_passed_over(text: str | bytes) -> None:
    assert only_asks(text, SPECS)


@pytest.mark.parametrize(
    "text",
    [
        '{"action":"add","id":"1"}',
        '{"action":"ack","cursors":{"user/42":7}}',
        '{"action":"authenticate","token":"x"}',
        '{"action":"removed_long_ago","id":"1"}',
        '{"action":7}',
        "no JSON",
        b"\xff",
        '{"action":"list","text":"' + "x" * BYTES_MAX + '"}',
    ],
)
def test_commands_acks_and_what_cannot_be_read_are_handled(text: str | bytes) -> None:
    assert not only_asks(text, SPECS)
