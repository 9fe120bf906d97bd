"""A mailbox that is lent for a while: what its event and its row say of that. Pure."""

import msgspec


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A mailbox that somebody has for a while, under this address (perhaps one of its aliases).

    Nothing ends it at `until`: who reads it compares the time.
    """

    address: str
    since: str
    until: str
