"""The golden transcripts, played against the session: its messages are exactly the recorded ones."""

from tests.support.drivers.transcripts import FOLDER, read

FILES = sorted(FOLDER.glob("*.jsonl"))
NAMES = {
    "fresh-connect", "resume-after-drop", "gap", "log-changed", "slow-reader", "token-expired",
    "token-refreshed", "duplicate-command", "server-drain", "superseded", "classic-document", "subscriptions",
}  # fmt: skip
TYPES = {
    "authentication_result", "events", "live", "snapshot", "skipped", "lag", "subscribed", "unsubscribed",
    "error", "heartbeat", "heartbeat_response", "goaway", "token_expiring",
}  # fmt: skip
"""The protocol's own messages to a client."""


def test_the_named_conversations_are_there() -> None:
    assert {path.stem for path in FILES} >= NAMES


def test_every_message_of_the_protocol_is_in_a_transcript() -> None:
    said = {step.frame["type"] for path in FILES for step in read(path)[1] if step.origin == "server"}
    assert said >= TYPES
