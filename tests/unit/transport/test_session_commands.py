"""Commands, queries and long answers of one connection."""

from typing import Any

from huahuo.transport.protocol.dialects import V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, note_command, types


def logged_in(
    *, client: str | None = None, fingerprint_key: bytes = b"key", dialect: Dialect = V1, **limits: Any
) -> Driver:
    driver = Driver(
        dialect=dialect,
        settings=TransportSettings(**limits),
        commands=[note_command(), note_command("look", query=True)],
        fingerprint_key=fingerprint_key,
    )
    driver.login(client=client)
    driver.take()
    return driver


# Limits


def test_above_the_rate_messages_are_refused_with_their_id_and_the_connection_stays() -> None:
    driver = logged_in(messages_per_s=10)
    answers = [driver.say(action="heartbeat", id=str(n))[0] for n in range(25)]
    assert types(answers).count("heartbeat_response") == 19
    assert (answers[-1]["code"], answers[-1]["id"]) == ("rate_limited", "24")
    assert driver.closed is None


# What is no message


def driver() -> Driver:
    made = Driver(commands=[note_command(query=True)])
    made.hold_snapshots = True
    return made
