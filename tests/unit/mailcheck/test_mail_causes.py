"""Whatever a check says names the event that asked for it, also after a restart."""

from huahuo.eventstore.model import StoredEvent
from tests.support.models.mail_book import mail
from tests.support.worlds.mail_world import MailWorld, in_mail_world


def causes(events: list[StoredEvent], principal: str = "service") -> dict[str, set[str]]:
    """By entity: which events the service's own events were caused by."""
    at = {e.position: f"{e.entity} {e.type}" for e in events}
    found: dict[str, set[str]] = {}
    for event in events:
        if event.principal == principal:
            found.setdefault(event.entity, set()).add(at.get(event.cause, "nothing"))
    return found


def test_each_of_several_checks_names_its_own_request() -> None:
    async def test(world: MailWorld) -> None:
        numbers = [await world.add(f"{n}@example.com") for n in range(3)]
        await world.do("check_emails", email_ids=numbers)
        for _ in numbers:
            check = await world.script.next()
            await check.mails(mail(1))
            check.finish(1)
        await world.mail.idle()
        wanted = {f"mailbox/{n}": {f"mailbox/{n} check_requested"} for n in numbers}
        assert causes(await world.events()) == wanted

    in_mail_world(test)


def test_a_check_that_goes_on_after_a_restart_still_names_its_request() -> None:
    async def test(world: MailWorld) -> None:
        number = await world.add()
        await world.do("check_emails", email_ids=[number])
        await (await world.script.next()).mails(mail(1))
        await world.restart()
        (await world.script.next()).finish(1)
        await world.mail.idle()
        assert causes(await world.events()) == {f"mailbox/{number}": {f"mailbox/{number} check_requested"}}

    in_mail_world(test)


def test_the_end_of_an_interrupted_report_names_its_beginning() -> None:
    async def test(world: MailWorld) -> None:
        number = await world.add()
        await world.mail.report_status(number, "processing", "…")
        await world.restart()
        await world.mail.idle()
        last = (await world.events())[-1]
        assert last.type == "check_ended"
        cause = (await world.events())[last.cause - 1]
        assert cause.type == "check_started"

    in_mail_world(test)
