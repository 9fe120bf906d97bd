"""`huahuo revoke`: through the running service as an admin, or under the writer's lock if none runs."""

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.principal import UserId
from huahuo.app.config import Settings
from huahuo.audit.record import ask_service, writing
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.protocol.refusals import in_english


async def revoke(settings: Settings, *, user_id: UserId | None, jti: str | None) -> None:
    """Make the revocation durable. A running service closes the sockets within a second.

    Raises:
        HuahuoError: there is no such directory, the log cannot be opened, or the service refused.
    """
    async with writing(settings) as log:
        if log is not None:
            publisher = Publisher(log, SystemAmbient(), Registry())
            try:
                await publisher.revoke(user_id=user_id, jti=jti, principal="huahuo revoke")
            except PublishRefused as error:
                refusal = error.refusal
                raise HuahuoError(in_english(refusal.code, refusal.message, refusal.details)) from error
            return
    await ask_service(settings, "revoke", **({"jti": jti} if user_id is None else {"user_id": user_id}))
