"""Lists that clients follow: `app.list`. An application says which rows, and the service keeps them live.

    @app.list("open_auctions")
    def open_in(who: Principal, fields: Category) -> Rows:
        return Rows("open_auctions", part=fields.category, order="ascending")

Its tables are tracked from the first start on that has such a list (`eventstore.core.row_changes`): the
log then notes which rows change, so that a client that comes back gets only those. Which tables they are
is known when the function has answered: a table is tracked from its first answer on.
"""

import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

from huahuo.actors.domain.client_actions import Rows
from huahuo.actors.domain.entity import Handler, must_name, parameters_of
from huahuo.actors.domain.projection_rows import TABLE_PREFIX
from huahuo.actors.domain.storable import is_table
from huahuo.actors.domain.structs import DefinitionError, Refused, place_of
from huahuo.actors.plugins.actions import LiveList
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.limits import KEY_BYTES_MAX, NAME_CHARS_MAX
from huahuo.replay.list_window import PARTS_MAX, ListRange

_TAKEN: Final = ("limit", "after", "wait", "ticket")


class LiveLists:
    """The live lists of one application."""

    def __init__(self) -> None:
        self.by_name: dict[str, LiveList] = {}
        self._places: dict[str, str] = {}

    def list[F: Callable[..., Any]](self, name: str, /) -> Callable[[F], F]:
        """Declare one. Raises DefinitionError: the name is taken, or the function does not fit."""
        must_name(name, "app.list", '"open_orders"')

        def register(answer: F) -> F:
            where = f"{place_of(answer)}: list({name!r})"
            if name in self._places:
                raise DefinitionError(
                    f"{where}: {self._places[name]} answers it already: choose another name"
                )
            fields = parameters_of(answer, ("who",))
            for taken in _TAKEN:
                if fields is not None and taken in fields.__struct_encode_fields__:
                    raise DefinitionError(f"{where}: a field may not be called {taken!r}: every list has it")
            self._places[name] = place_of(answer)
            self.by_name[name] = LiveList(name, fields, _asks(answer, name), _row_of(answer))
            return answer

        return register


def _row_of(answer: Handler) -> Any:
    """`Offer` of a function that returns `Rows[Offer]`, or that or something else."""
    try:
        returned = typing.get_type_hints(answer).get("return")
    except Exception:  # noqa: BLE001  whatever an annotation raises that cannot be resolved
        return Any
    for one in (returned, *typing.get_args(returned)):
        if typing.get_origin(one) is Rows:
            return typing.get_args(one)[0]
    return Any


def _asks(answer: Handler, name: str) -> Callable[[Principal, msgspec.Struct | None], ListRange | None]:
    where = f"{place_of(answer)}: list({name!r})"

    def ask(who: Principal, fields: msgspec.Struct | None) -> ListRange | None:
        try:
            rows = answer(who) if fields is None else answer(who, fields)
        except Refused:
            return None
        return None if isinstance(rows, Refused) else _range(rows, where)

    return ask


def _range(rows: Any, where: str) -> ListRange:
    """Raises TypeError: the application did not answer with rows."""
    if not isinstance(rows, Rows):
        raise TypeError(f"{where}: it returns {type(rows).__name__}: return Rows(…)")
    parts = (rows.part,) if isinstance(rows.part, str) else tuple(dict.fromkeys(rows.part))
    if not is_table(rows.table):
        raise TypeError(f"{where}: {rows.table!r} is no table: use 1 to 64 letters, digits or _ . -")
    if not 1 <= len(parts) <= PARTS_MAX:
        raise TypeError(f"{where}: {len(parts)} parts, and a list has 1 to {PARTS_MAX}")
    if max(map(len, parts)) > NAME_CHARS_MAX:
        raise TypeError(f"{where}: a part is a text of at most {NAME_CHARS_MAX} characters")
    low = b"" if rows.since is None else rows.since.encode()
    high = None if rows.until is None else rows.until.encode()
    if max(len(low), len(high or b"")) > KEY_BYTES_MAX:
        raise TypeError(f"{where}: a key has at most {KEY_BYTES_MAX} bytes")
    return ListRange(TABLE_PREFIX + rows.table, parts, 1, low, high, rows.order == "descending")
