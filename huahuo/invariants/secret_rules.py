"""A rule that knows the service's own keys: no event holds one of them (I16). Pure."""

import base64
from collections.abc import Mapping

from huahuo.eventstore.model import StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict

_SHIFTS = range(3)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class KeysNotWritten:
    """`keys` by their names, which are the only thing that a finding tells."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._tally = Tally("I16")
        self._forms = [(name, form) for name, key in keys.items() for form in _forms(key)]

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone):
            return
        self._tally.judged += 1
        for name, form in self._forms:
            if form in one.body:
                self._tally.wrong(f"the event at position {one.position} holds the {name}")

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("events without a key of the service")


def _forms(key: bytes) -> list[bytes]:
    """The key raw, in hex, and in base64 with up to two bytes before it."""
    whole = [base64.b64encode(bytes(shift) + key) for shift in _SHIFTS]
    inner = [form[4 if shift else 0 : -4] for shift, form in zip(_SHIFTS, whole, strict=True)]
    return [key, key.hex().encode(), *inner, *(one.translate(_URL_SAFE) for one in inner)]
