"""A connection to a mail server on which a mailbox is signed in."""

from huahuo.eventstore.ambient import Ambient
from huahuo.mailcheck.checks.ports import CheckLimits, Target
from huahuo.mailcheck.imap.client import ImapClient
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.imap.stream import ImapStream
from huahuo.mailcheck.servers.faults import MailFault
from huahuo.mailcheck.servers.providers import Place


async def connected(
    target: Target, network: Network, limits: CheckLimits, ambient: Ambient
) -> tuple[Place, ImapClient]:
    """The first place that can be reached, and a connection to it. If none can, the fault of the first."""
    place, stream = await _connect(target, network, limits)
    client = ImapClient(
        stream,
        ambient,
        command_timeout_s=limits.command_timeout_s,
        fetch_timeout_s=limits.fetch_timeout_s,
    )
    return place, client


async def _connect(target: Target, network: Network, limits: CheckLimits) -> tuple[Place, ImapStream]:
    first: MailFault | None = None
    for place in target.places:
        try:
            return place, await network.open_stream(
                place.host,
                place.port,
                use_ssl=place.tls == "implicit",
                timeout_s=limits.connect_timeout_s,
                listed=place.listed,
                proxy=target.proxy,
            )
        except MailFault as fault:
            first = first or fault
    assert first is not None, "a target has a place"
    raise first


async def greet(client: ImapClient, place: Place) -> None:
    """Begin a new connection. Raises MailFault."""
    await client.greet()
    await client.secure(place.tls)


async def sign_in(client: ImapClient, target: Target, place: Place) -> None:
    """Sign in after `greet`. Raises MailFault."""
    await client.sign_in(target.auth, target.user, target.secret, host=place.host, port=place.port)
    await client.identify()
