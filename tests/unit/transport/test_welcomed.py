"""The library's protocol object for WebSockets that are opened without the library."""

from types import GeneratorType

from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from huahuo.transport.wire.server_protocol import LOGGER, WelcomedProtocol


def comparable(protocol: ServerProtocol) -> dict[str, object]:
    """Its attributes; of those that are objects of its own, the class."""
    return {
        name: type(value) if isinstance(value, StreamReader | GeneratorType) else value
        for name, value in vars(protocol).items()
        if name != "id"
    }


def test_it_has_what_the_librarys_own_object_has() -> None:
    theirs = ServerProtocol(state=OPEN, max_size=1234, logger=LOGGER)
    ours = WelcomedProtocol(1234, None)
    assert comparable(ours) == comparable(theirs)
    assert isinstance(ours.id, type(theirs.id))


def test_no_two_share_what_changes() -> None:
    one, other = WelcomedProtocol(1, None), WelcomedProtocol(1, None)
    for name in ("extensions", "reader", "events", "writes", "parser"):
        assert getattr(one, name) is not getattr(other, name)
