"""The handlers of all commands and queries of clients, made once each."""

from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.jobs import JobDoor
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.adding_mails import AddingMails
from huahuo.mailcheck.api.exporting import Exporting
from huahuo.mailcheck.api.folders import AskingFolders
from huahuo.mailcheck.api.grouping import Grouping
from huahuo.mailcheck.api.handlers import Handlers
from huahuo.mailcheck.api.mail_queries import MailQueries
from huahuo.mailcheck.api.searching import Searching
from huahuo.mailcheck.api.signing_in import Signins
from huahuo.mailcheck.api.testing_login import TestingLogin
from huahuo.mailcheck.api.watch_emails import WatchEmailsHandler
from huahuo.mailcheck.attachments.own_mails import OwnMails
from huahuo.mailcheck.attachments.reading import Attachments
from huahuo.mailcheck.checks.known import KnownMails
from huahuo.mailcheck.checks.mailboxes import Mailboxes, Pauses
from huahuo.mailcheck.contents.opening import Opening
from huahuo.mailcheck.domain.bounds import MailSettings
from huahuo.mailcheck.domain.readers import Readers
from huahuo.mailcheck.finding.index import MailIndex


class Commands:
    """See the module. `searching` None: mails cannot be searched."""

    def __init__(
        self,
        log: Log,
        directory: Directory,
        executor: Executor,
        ambient: Ambient,
        settings: MailSettings,
        readers: Readers,
        mailboxes: Mailboxes,
        own: OwnMails,
        opening: Opening,
        *,
        known: KnownMails,
        pauses: Pauses,
        index: MailIndex | None,
        jobs: JobDoor | None,
    ) -> None:
        self._handlers = Handlers(
            log,
            directory,
            executor,
            pauses,
            lines_max=settings.import_lines_max,
            lines_a_part=settings.import_lines_a_part,
            providers=settings.providers,
            jobs=jobs,
        )
        self._signins = Signins(log, directory, readers.requests, ambient, settings.providers, settings.proxy)
        attachments = Attachments(own, readers.one_mail.check, mailboxes.plan_of, executor, ambient)
        folders = AskingFolders(
            own, readers.sign_in.check, mailboxes.plan_of, settings.check.folders, ambient
        )
        logins = TestingLogin(
            own,
            mailboxes,
            stored=readers.sign_in.check,
            given=readers.login,
            providers=settings.providers,
            proxy=settings.proxy,
            ambient=ambient,
        )
        adding = AddingMails(own, mailboxes, known, executor, ambient, codes=settings.check.codes)
        self.searching = None if index is None else Searching(log, directory, index)
        self.actions: list[Action] = [
            *self._handlers.actions(),
            *MailQueries(log, own, opening).actions(),
            *self._signins.actions(),
            *WatchEmailsHandler(log, directory, a_part=settings.ids_max).actions(),
            *attachments.actions(),
            *folders.actions(),
            *logins.actions(),
            *adding.actions(),
            *Grouping(log, directory).actions(),
            *Exporting(log, directory, ambient).actions(),
            *([] if self.searching is None else self.searching.actions()),
        ]

    async def close(self) -> None:
        """End sign-ins and imports that run. Idempotent."""
        await self._signins.close()
        await self._handlers.close()
