"""The errors of the embedding API, made from those of the floors below."""

import contextlib
from collections.abc import Iterator

from huahuo.actors.domain.decision import Refused
from huahuo.actors.plugins.plugin import ApiRefused
from huahuo.embedding import calls
from huahuo.errors import HuahuoError, NotRunning, OutcomeUnknown
from huahuo.eventstore.errors import Closed, EventStoreError, Unavailable
from huahuo.transport.commands.published_events import PublishRefused


class PublicationRefused(Refused, HuahuoError):  # noqa: N818  a refusal
    """What publishing raises: a `Refused`, and a `HuahuoError` like all that `Service` raises."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate exceptions of the floors below into the errors of this API."""
    try:
        yield
    except BaseException as error:
        translate(error)
        raise


def translate(error: BaseException) -> None:
    """Raise what the application is told in place of `error`, if it is another one."""
    match error:
        case HuahuoError() | Refused():
            pass
        case PublishRefused():
            raise PublicationRefused(*calls.refused(error).args) from error
        case ApiRefused() | ValueError():
            raise HuahuoError(str(error)) from error
        case Unavailable() | TimeoutError():
            raise OutcomeUnknown("whether the event was written is not known") from error
        case Closed() | RuntimeError():
            raise NotRunning(str(error)) from error
        case EventStoreError():
            raise HuahuoError(str(error)) from error
