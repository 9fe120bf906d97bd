"""Lists: queries of an application that answer with rows of a projection, in sorted pages. Pure.

@app.query("get_orders")
def get_orders(who: Principal) -> Rows:
    return Rows("orders", part=str(who.user_id))
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from huahuo.actors.domain.errors import DefinitionError, place_of
from huahuo.actors.domain.handlers import Handler, must_name, parameters_of, refuse_action
from huahuo.actors.domain.messages import struct_of, with_fields

LIMIT_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 1 << 20
"""A page ends before it would exceed this; one row alone may."""
_LIMIT: Final = 100
_TAKEN: Final = frozenset({"action", "id", "limit", "before"})


class Rows(Struct, frozen=True):
    """Which rows a list is about: those that decisions `Put` under this table and part."""

    table: str
    part: str = ""


class _Page(Struct, frozen=True):
    """The fields of every list. `before` is the `next` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = _LIMIT
    before: Annotated[str, Meta(max_length=2_000)] | UnsetType = UNSET


class ListQuery:
    """A list: see the module.

    Raises:
        DefinitionError: the action or the function cannot be a list's.
    """

    def __init__(self, action: str, answer: Handler) -> None:
        where = f"{place_of(answer)}: query({action!r})"
        refuse_action(answer, action, "query")
        self.action = action
        self.answer = answer
        self.fields = parameters_of(answer, ("who",))
        taken = _TAKEN.intersection(() if self.fields is None else self.fields.__struct_encode_fields__)
        if taken:
            raise DefinitionError(f"{where}: a field may not be called {min(taken)!r}: every list has it")
        self.params = with_fields(self.fields, _Page, "List")

    def rows_for(self, who: Any, message: Any) -> Any:
        """What the application answers: the rows that this user may list, or a refusal."""
        more = () if self.fields is None else (struct_of(message, self.fields),)
        return self.answer(who, *more)


def before_of(message: Any) -> bytes | None:
    """The key that a page ends before. Raises ValueError: it is none that a page gave."""
    return None if message.before is UNSET else b64decode(message.before.encode(), b"-_", validate=True)


def page_body(action: str, found: Sequence[tuple[bytes, bytes]], limit: int, position: int) -> bytes:
    """The reply: at most `limit` rows of `found`, which has one more than that where there are more."""
    size, count = 0, 0
    for _key, value in found[:limit]:
        size += len(value)
        if count and size > PAGE_BYTES_MAX:
            break
        count += 1
    shown = found[:count]
    following = urlsafe_b64encode(shown[-1][0]).decode() if count < len(found) else None
    data = [msgspec.Raw(value) for _key, value in shown]
    return msgspec.json.encode({"type": action, "data": data, "next": following, "position": position})


class Lists:
    """The lists of one application. `taken` says why an action cannot be one's."""

    def __init__(self, taken: Callable[[str], str | None]) -> None:
        self.by_action: dict[str, ListQuery] = {}
        self._taken = taken

    def query[F: Callable[..., Any]](self, action: str, /) -> Callable[[F], F]:
        """Declare one. Raises DefinitionError: the action is taken, or the function does not fit."""
        must_name(action, "app.query", '"get_orders"')

        def register(answer: F) -> F:
            other = self.by_action.get(action)
            why = self._taken(action) if other is None else f"{place_of(other.answer)} answers it already"
            if why is not None:
                raise DefinitionError(f"{place_of(answer)}: query({action!r}): {why}: choose another action")
            self.by_action[action] = ListQuery(action, answer)
            return answer

        return register
