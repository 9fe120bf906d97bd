"""Mail as a plug-in: what the service, time travel and embedding applications get from it.

Light to import: IMAP, MIME and the domain are imported when a service starts, the folds when somebody
looks back.
"""

from collections.abc import Iterable, Mapping, Sequence

from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Brought, Host, Plugin, Samples
from huahuo.eventstore.verdict import Rule
from huahuo.mailcheck.events import PUBLIC_TYPES
from huahuo.mailcheck.plugin.settings import SECRETS, MailOptions, bounds


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
        from huahuo.mailcheck.finding.names import FILE, NAME

        return {NAME: FILE}

    def rules(self) -> Sequence[Rule]:
        """See `Plugin`."""
        from huahuo.mailcheck.log_rules import ChecksEndOnce, MailsToldOnce

        return ChecksEndOnce(), MailsToldOnce()

    def bring(self, host: Host) -> Brought:
        """See `Plugin`."""
        from huahuo.mailcheck.classic.interpreter import FireMailTongue
        from huahuo.mailcheck.classic.queries import Queries
        from huahuo.mailcheck.classic.routes import routes
        from huahuo.mailcheck.domain.mail import MailDomain
        from huahuo.mailcheck.finding.index import MailIndex
        from huahuo.mailcheck.words import en, zh

        options = host.settings
        index = MailIndex(host) if options.mail_search else None
        mail = MailDomain(
            log=host.log,
            directory=host.directory,
            ambient=host.ambient,
            executor=host.executor,
            settings=bounds(host.settings, host.ambient, host.resolver),
            wait_s=host.wait_s,
            has_room=host.has_room,
            shared=host.shared,
            index=index,
            jobs=host.jobs,
            lending=host.lending,
            tap=host.feed.tap,
        )
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
            actions=[*mail.actions(), *Queries(host.log, host.directory, mail.searching).actions()],
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
