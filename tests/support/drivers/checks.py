"""Running one mail check in a test and keeping its reports."""

import asyncio
from dataclasses import dataclass, field

from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.check import check
from huahuo.mailcheck.checks.check_effect import CheckFailed, CheckLimits, Environment, Ok, Target
from huahuo.mailcheck.events import FetchedMail, UidCursor
from huahuo.mailcheck.servers.faults import Outcome
from huahuo.mailcheck.servers.graph import Requests
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Place

QUICK = CheckLimits(connect_timeout_s=20.0, command_timeout_s=20.0, fetch_timeout_s=30.0, idle_timeout_s=40.0)
LOCAL = Network(allow_private=True)


@dataclass
class Report:
    """A sink that keeps everything; `cursors` holds the cursor of each batch."""

    steps: list[tuple[int, str]] = field(default_factory=list)
    got: list[FetchedMail] = field(default_factory=list)
    cursors: list[UidCursor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)

    async def progress(self, percent: int, message: str) -> None:
        self.steps.append((percent, message))

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        self.got += batch
        self.cursors.append(cursor)
        self.sizes.append(len(batch))

    async def unread(self, folder: str, uidvalidity: int, uids: str) -> None:
        self.unseen[folder] = uids

    @property
    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.got]

    @property
    def percents(self) -> list[int]:
        return [percent for percent, _ in self.steps]


def target(
    port: int,
    user: str = "alice@example.com",
    password: str = "secret",
    *,
    host: str = "127.0.0.1",
    use_ssl: bool = False,
) -> Target:
    """A mailbox on this machine."""
    place = Place(host, port, "implicit" if use_ssl else "offered")
    return Target(places=(place,), user=user, secret=Secret(password))


async def checked(
    where: Target,
    since: UidCursor | None = None,
    *,
    report: Report | None = None,
    limits: CheckLimits = QUICK,
    network: Network = LOCAL,
    ambient: Ambient | None = None,
) -> tuple[Ok, Report]:
    """One check, as the mailbox actor runs it."""
    report = report or Report()
    done = await check(
        where,
        since,
        report,
        environment=Environment(
            network=network,
            requests=Requests(network, timeout_s=1),
            limits=limits,
            large_mails=asyncio.Semaphore(1),
            executor=InlineExecutor(),
            ambient=ambient or SystemAmbient(),
        ),
    )
    return done, report


def run_check(where: Target, since: UidCursor | None = None, **options: object) -> tuple[Ok, Report]:
    """`checked` from a test without a loop."""
    return asyncio.run(checked(where, since, **options))  # type: ignore[arg-type]


def failed_check(where: Target, since: UidCursor | None = None, **options: object) -> Outcome:
    """The outcome of a check that must fail."""
    try:
        done, _ = run_check(where, since, **options)
    except CheckFailed as failed:
        return failed.outcome
    raise AssertionError(f"the check succeeded: {done}")
