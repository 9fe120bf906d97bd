"""The golden transcripts, played against the session: its messages are exactly the recorded ones."""

from pathlib import Path

import msgspec
import pytest

from tests.support.drivers.transcripts import FOLDER, Stage, Step, read

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


def play(steps: list[Step]) -> None:
    stage = Stage()
    for step in steps:
        stage.play(step)
    assert not stage.said, "the session said more than the transcript"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_session_says_what_the_transcript_says(path: Path) -> None:
    title, steps = read(path)
    assert title.name == path.stem
    assert title.why
    play(steps)


def test_the_named_conversations_are_there() -> None:
    assert {path.stem for path in FILES} >= NAMES


def test_every_message_of_the_protocol_is_in_a_transcript() -> None:
    said = {step.frame["type"] for path in FILES for step in read(path)[1] if step.origin == "server"}
    assert said >= TYPES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_transcript_with_one_server_step_less_or_changed_does_not_pass(path: Path) -> None:
    _, steps = read(path)
    servers = [index for index, step in enumerate(steps) if step.origin == "server"]
    with pytest.raises(AssertionError):
        play([step for index, step in enumerate(steps) if index != servers[-1]])
    changed = msgspec.structs.replace(steps[servers[-1]], frame={"type": "changed"})
    with pytest.raises(AssertionError):
        play([changed if index == servers[-1] else step for index, step in enumerate(steps)])
