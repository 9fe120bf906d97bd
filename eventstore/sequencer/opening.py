"""The ordered log at an address. The client of PostgreSQL or NATS is imported only where it is used."""

import typing

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.port import Sequencer


class RemoteSequencer(Sequencer, typing.Protocol):
    """An ordered log that other machines keep."""

    async def check(self) -> list[str]:
        """Ask once whether it is there and keeps what it acknowledges. Returns warnings.

        Raises:
            Unreachable: it does not answer. SignInRefused: it does not let us in.
            Misconfigured: it may lose what it acknowledged.
        """
        ...


class ClientMissing(ImportError):  # noqa: N818  the condition is the name
    """The package that speaks to the log is not installed. The text says how to install it."""


def sequencer_at(address: LogAddress, ambient: Ambient) -> RemoteSequencer:
    """The way to the ordered log at `address`. It connects when it is first used.

    Raises:
        ClientMissing: see there.
    """
    try:
        if address.kind == "postgres":
            from huahuo.eventstore.sequencer.postgres import PostgresSequencer

            return PostgresSequencer(address, ambient)
        from huahuo.eventstore.sequencer.nats import NatsSequencer

        return NatsSequencer(address, ambient)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"asyncpg", "nats"}:
            raise
        raise ClientMissing(
            f"a log at {address.kind}:// needs one more package: pip install 'huahuo[{address.kind}]'"
        ) from None
