"""The orders that a roster keeps, so that not every request for a page sorts. Pure."""

from typing import Final

from huahuo.mailcheck.listing.order import Order
from huahuo.mailcheck.roster.state import Roster

ORDERS_MAX: Final = 2
"""Orders kept per roster, 64 to 130 bytes a mailbox each. The least recently used one is dropped."""


def kept_order(state: Roster, field: str) -> Order | None:
    """The order of a roster's rows by this field, if there is one. It may not be `ready` yet."""
    watchers = state.views.watchers
    order = watchers.get(field)
    if not isinstance(order, Order) or order.worn:
        return None
    watchers[field] = watchers.pop(field)  # at the end: the first one is the least recently used
    return order


def order_of(state: Roster, field: str) -> Order:
    """As `kept_order`. If there is none, it is begun, in place of the least recently used one."""
    order = kept_order(state, field)
    if order is None:
        watchers = state.views.watchers
        watchers.pop(field, None)
        while len(watchers) >= ORDERS_MAX:
            del watchers[next(iter(watchers))]
        order = watchers[field] = Order(field, state.cut())
        state.views.kept = True
    return order
