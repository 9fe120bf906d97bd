"""Mail as a plug-in: what the service, time travel and embedding applications get from it.

Light to import: IMAP, MIME and the domain are imported when a service starts, the folds when somebody
looks back.

The settings of mail: a table like the service's own, and the bounds of the domain that follow from it.
"""

import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Brought, Host, Plugin, Samples
from huahuo.actors.plugins.resolver import Resolver
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.verdict import Rule
from huahuo.mailcheck.events import PUBLIC_TYPES
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers, parse_proxy

if TYPE_CHECKING:
    from huahuo.mailcheck.plugin.domain import MailSettings

_SECONDS_MAX = 10 * 365 * 86_400


class MailOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of mail."""

    mail_allow_private: bool = False
    """permit mail servers on loopback and private addresses, and any port"""
    mail_ca_file: str = ""
    """PEM file of further certificate authorities for mail servers"""
    mail_proxy: str = ""
    """proxy to mail servers, token endpoints and Graph: http://HOST:PORT or socks5://HOST:PORT"""
    providers: Mapping[str, ProviderOptions] = MappingProxyType({})
    """changes to the table of providers: [providers.NAME], see docs/mail.md"""
    checks_at_once: Annotated[int, Meta(ge=1)] = 64
    """mailbox checks running at the same time"""
    checks_per_host: Annotated[int, Meta(ge=1)] = 8
    """mailbox checks running at the same time on one mail server"""
    checks_waiting_per_user: Annotated[int, Meta(ge=1)] = 20_000
    """queued checks of one user kept in memory; more of them wait in the log"""
    checks_waiting_max: Annotated[int, Meta(ge=1)] = 100_000
    """the same, of all users"""
    mail_timeout_s: Annotated[float, Meta(ge=0.1, le=_SECONDS_MAX)] = 30.0
    """seconds a mail server may take for one answer"""
    mail_bytes_max: Annotated[int, Meta(ge=65536)] = 25 << 20
    """larger mails are kept with their headers only, bytes"""
    mailboxes_per_user: Annotated[int, Meta(ge=1)] = 100_000
    """mailboxes one user may have"""
    mail_bodies: Literal["background", "on_demand", "at_once"] = "background"
    """when the text of mails older than a day (of all, without mail_codes) is read: after their headers in
    the background, when somebody opens one, or at once
    """
    mail_unread: bool = True
    """ask at each check which of the newest mails are unread on the server"""
    mail_folders: tuple[str, ...] = ("junk",)
    """folders read besides INBOX: names, or junk for the one that holds junk"""
    watch_renew_s: Annotated[float, Meta(ge=1, le=1740)] = 540.0
    """longest time of one IDLE of a watched mailbox, seconds"""
    watch_poll_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """seconds between two looks at a watched mailbox, a quarter more or less; with IDLE up to two fifths
    less, and more if many are watched
    """
    watch_connections_per_host: Annotated[int, Meta(ge=1)] = 1_000
    """connections of watchers to a mail server without connections_max"""
    mail_codes: bool = True
    """look for verification codes in new mails; mail_received carries them"""
    mail_search: bool = True
    """keep a full-text index of mails, in mail-search.db of the data directory"""

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in SECRETS)
        return f"MailOptions({', '.join(shown)})"


SECRETS = frozenset({"mail_proxy", "providers"})
"""Settings that may hold a password: that of a proxy, or an application's secret at a provider."""


def bounds(options: MailOptions, ambient: Ambient, resolver: Resolver) -> "MailSettings":
    """The bounds of the domain. Raises ValueError if a setting cannot be used."""
    # The settings are read by every command of `huahuo`, most of which check no mail.
    from huahuo.mailcheck.checks.backoff import Pace
    from huahuo.mailcheck.checks.check_effect import CheckLimits
    from huahuo.mailcheck.plugin.domain import MailSettings
    from huahuo.mailcheck.servers.network import Network

    try:
        proxy = parse_proxy(options.mail_proxy, trusted=True)
    except ValueError as error:
        raise ValueError(f"mail_proxy: {error}") from None
    return MailSettings(
        providers=Providers(options.providers, allow_private=options.mail_allow_private),
        proxy=proxy,
        network=Network(
            allow_private=options.mail_allow_private,
            resolver=resolver,
            tls=_tls(options.mail_ca_file),
            ambient=ambient,
        ),
        check=CheckLimits(
            connect_timeout_s=min(options.mail_timeout_s, CheckLimits().connect_timeout_s),
            command_timeout_s=options.mail_timeout_s,
            mail_bytes_max=options.mail_bytes_max,
            codes=options.mail_codes,
            bodies=options.mail_bodies,
            unread=options.mail_unread,
            folders=options.mail_folders,
        ),
        checks_max=options.checks_at_once,
        checks_per_host_max=options.checks_per_host,
        checks_waiting_max=options.checks_waiting_max,
        checks_waiting_per_user_max=options.checks_waiting_per_user,
        mailboxes_max=options.mailboxes_per_user,
        watch=Pace(renew_s=options.watch_renew_s, poll_s=options.watch_poll_s),
        watch_connections_max=options.watch_connections_per_host,
    )


def _tls(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(Path(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"mail_ca_file: cannot load {ca_file}: {error}") from None
    return context


class Mail(Plugin):
    """See the module."""

    name = "mail"
    extra = "huahuo[mail]"
    settings = MailOptions
    secret_settings = SECRETS
    event_types = PUBLIC_TYPES

    @property
    def past(self) -> Past:
        """See `Plugin`."""
        from huahuo.mailcheck.plugin.past import PAST

        return PAST

    @property
    def projections(self) -> Mapping[str, str]:
        """See `Plugin`."""
        from huahuo.mailcheck.records import INDEX_FILE, INDEX_NAME

        return {INDEX_NAME: INDEX_FILE}

    def rules(self) -> Sequence[Rule]:
        """See `Plugin`."""
        from huahuo.mailcheck.events import ChecksEndOnce, MailsToldOnce

        return ChecksEndOnce(), MailsToldOnce()

    def bring(self, host: Host) -> Brought:
        """See `Plugin`."""
        from huahuo.mailcheck import en, zh
        from huahuo.mailcheck.api.mail_index import MailIndex
        from huahuo.mailcheck.classic.interpreter import FireMailTongue
        from huahuo.mailcheck.classic.queries import Queries
        from huahuo.mailcheck.classic.routes import routes
        from huahuo.mailcheck.plugin.domain import MailDomain

        options = host.settings
        index = MailIndex(host) if options.mail_search else None
        mail = MailDomain(host, bounds(options, host.ambient, host.resolver), index=index)
        host.metrics.gauge("checks_running", "Mailbox checks that run.", lambda: mail.checks_running)
        host.metrics.gauge(
            "checks_waiting", "Mailbox checks that wait for their turn.", lambda: mail.checks_waiting
        )
        host.metrics.gauge("access_tokens", "Access tokens in memory.", lambda: mail.tokens.kept)
        watching = mail.watching
        host.metrics.gauge("mailboxes_watched", "Mailboxes watched for new mails.", lambda: watching.count)
        host.metrics.gauge("watch_connections", "Watchers that wait in IDLE.", lambda: watching.idle)
        host.metrics.gauge(
            "watch_hosts_left_alone",
            "Mail servers that watchers leave alone for a while, because they failed or limit us.",
            lambda: watching.hosts_left_alone,
        )
        host.metrics.total("watch_looks", "Looks of watchers at mailboxes.", lambda: watching.looks)
        host.metrics.total(
            "watch_backoffs", "Times that a mail server was left alone.", lambda: watching.backoffs
        )
        return Brought(
            kinds=mail.kinds,
            actions=[*mail.actions, *Queries(mail.rosters, mail.searching).actions()],
            tongues=[FireMailTongue()],
            routes=[*mail.routes(), *(routes() if host.classic_ui else ())],
            words=(zh, en),
            user_snapshot=mail.snapshot,
            guarded=frozenset({"mailbox", "roster"}),
            at_work=mail.checks_by_user,
            start=mail.start,
            work=mail.work,
            rest=mail.rest,
            divide=mail.divide,
            drain=mail.drain,
            close=mail.close,
            forget=mail.belongings.forget,
            trace=mail.trace,
            idle=mail.idle,
            api=mail,
        )

    def warnings(self, settings: MailOptions) -> Iterable[str]:
        """See `Plugin`."""
        if settings.mail_allow_private:
            yield "users may name mail servers on private addresses (mail_allow_private)"

    def samples(self, seed: int) -> Samples:
        """See `Plugin`."""
        from huahuo.mailcheck.plugin.samples import EventMix

        return EventMix(seed)
