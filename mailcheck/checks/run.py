"""The effect of a check: from what the mailbox says is to be checked to what is said of it at the end.

A run that finds its check over ends silently. A run whose append has an unknown outcome leaves the check
open, and the next one continues from the durable cursor. Anything else that is raised ends the check.
"""

from typing import Final, Protocol

from huahuo.actors.effects.run import EffectRun
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.ports import CheckFailed, Ok, Sink, Target
from huahuo.mailcheck.fetched import INBOX, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import Finish, MailsFound, Plan, Progress
from huahuo.mailcheck.tables.records import OpenCheck

_OAUTH_UNSUPPORTED: Final = "暂不支持 OAuth 登录 (signing in with OAuth is not supported yet)"
# These no longer accept passwords. Trying one proves nothing and may lock the account.
_OAUTH_ONLY_HOSTS: Final = (".office365.com", ".outlook.com", "outlook.live.com")


class CheckMail(Protocol):
    """`checker.check` with every argument bound except those of the mailbox."""

    async def __call__(self, target: Target, since: UidCursor | None, sink: Sink) -> Ok:
        """See `checker.check`."""
        ...


class Checking:
    """See the module."""

    def __init__(self, check_mail: CheckMail) -> None:
        self._check_mail = check_mail

    async def perform(self, job: OpenCheck, run: EffectRun) -> None:
        """Check one mailbox, and record how that ended."""
        await run.finish(await self._outcome(job.check_id, run))

    async def _outcome(self, check_id: int, run: EffectRun) -> Finish:
        plan: Plan = run.state
        password = await _password(plan, run)
        if password is None:
            return Finish(check_id, "error", _OAUTH_UNSUPPORTED)
        target = Target(
            host=plan.server,
            port=plan.port,
            use_ssl=plan.use_ssl,
            user=plan.email,
            password=password,
        )
        try:
            done = await self._check_mail(target, plan.cursors.get(INBOX), _Report(check_id, run))
        except CheckFailed as failed:
            outcome = failed.outcome
            said = f"{outcome.message}: {outcome.server_text}" if outcome.server_text else outcome.message
            return Finish(check_id, outcome.status, said)
        return Finish(check_id, "ok", cursor=done.cursor)


async def _password(plan: Plan, run: EffectRun) -> Secret | None:
    """The password, None if there is none or the server does not accept passwords."""
    server = f".{plan.server.lower()}"
    return None if server.endswith(_OAUTH_ONLY_HOSTS) else await run.secret("password")


class _Report:
    """See `Sink`."""

    def __init__(self, check_id: int, run: EffectRun) -> None:
        self._check_id = check_id
        self._run = run

    async def progress(self, percent: int, message: str) -> None:
        """See `Sink`. `Begin` has already recorded 0 %."""
        if percent:
            await self._run.emit(Progress(self._check_id, percent, message))

    async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
        """See `Sink`."""
        await self._run.emit(MailsFound(self._check_id, tuple(batch), cursor))
