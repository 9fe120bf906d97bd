"""The bounds of the domain."""

from dataclasses import dataclass, field

from huahuo.mailcheck.api.importing import LINES_A_PART
from huahuo.mailcheck.checks.ports import CheckLimits
from huahuo.mailcheck.imap.network import Network
from huahuo.mailcheck.roster.decider import IDS_MAX, MAILBOXES_MAX
from huahuo.mailcheck.roster.importer import LINES_MAX
from huahuo.mailcheck.servers.providers import Providers
from huahuo.mailcheck.servers.proxies import Proxy
from huahuo.mailcheck.watching.pace import Pace


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """See the module. `network` says what checks may connect to."""

    network: Network = field(default_factory=Network)
    check: CheckLimits = field(default_factory=CheckLimits)
    providers: Providers = field(default_factory=Providers)
    proxy: Proxy | None = None
    checks_max: int = 64
    checks_per_host_max: int = 8
    checks_waiting_max: int = 100_000
    """Queued checks kept in memory. More of them wait in the log until a sweep finds room."""
    checks_waiting_per_user_max: int = 20_000
    large_mails_max: int = 4
    """Mails larger than a batch that are in memory at once, however many checks run."""
    ids_max: int = IDS_MAX
    import_lines_max: int = LINES_MAX
    import_lines_a_part: int = LINES_A_PART
    """A longer import is committed this many lines at a time."""
    mailboxes_max: int = MAILBOXES_MAX
    watch: Pace = field(default_factory=Pace)
    watch_connections_max: int = 1_000
    """To one host, where the table of providers says nothing."""
    sweep_s: float = 30.0
    """How often the log is searched for open checks and purges that are not being worked on."""
    close_timeout_s: float = 5.0
