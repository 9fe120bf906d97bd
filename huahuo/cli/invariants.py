"""What `huahuo doctor --check` says: the invariants of docs/invariants.md that a log alone can show."""

from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.app.plugins import standard
from huahuo.cli.finding import Finding
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.eventstore.verdict import Verdict
from huahuo.invariants.secret_rules import KeysNotWritten
from huahuo.invariants.walk import check, rules

_BROKEN = "Please report it with this line: the service should never write such a log"


async def judged(settings: Settings) -> list[Finding]:
    """A finding for each invariant. The log is read while a service runs, or from a private copy."""
    data = settings.data
    if not (data / DATABASE).is_file():
        return [Finding("ok", "invariants", "no log yet, so there is nothing to judge")]
    try:
        view = await SqliteView.open(data)
        try:
            kept = keys.read(settings)
            names = {"token key": kept.jwt_secret, "master key": kept.master_key}
            verdicts = await check(view, [*rules(standard()), KeysNotWritten(names)])
        finally:
            await view.close()
    except EventStoreError as error:
        return [Finding("error", "invariants", f"not judged: {error}")]
    return [_finding(verdict) for verdict in verdicts]


def _finding(verdict: Verdict) -> Finding:
    if verdict.holds is False:
        return Finding("error", verdict.invariant, f"{verdict.text}. {_BROKEN}")
    state = "holds" if verdict.holds else "nothing to judge"
    return Finding("ok", verdict.invariant, f"{state}: {verdict.text}")
