"""The damage found in a log since it was opened: for the probe, the metrics and the service's log lines."""

from collections.abc import Mapping

import structlog

from huahuo.eventstore.errors import Corrupt

PLACES_MAX = 64
"""At most this many places are remembered, and each is logged once. Further ones are only counted, except
whole tables: `must_not_hide` asks for those."""
_TABLE = "table "
"""How the place of a table begins whose rows may be hidden."""

_log = structlog.get_logger(__name__)


class Corruption:
    """The damaged places of one log. Any thread may `note`."""

    def __init__(self) -> None:
        self.found = 0
        """How often a value did not fit its check."""
        self._places: dict[str, str] = {}

    def note(self, error: Corrupt) -> None:
        """Remember the place, and log it the first time."""
        self.found += 1
        has_room = len(self._places) < PLACES_MAX or error.place.startswith(_TABLE)
        if error.place not in self._places and has_room:
            self._places[error.place] = str(error)
            _log.error("corrupt", place=error.place, reason=error.reason, position=error.position)

    def must_not_hide(self, table: str) -> None:
        """Call it when a row of `table` was not found. Raises Corrupt if a damaged page may hide it."""
        if (place := f"{_TABLE}{table}") in self._places:
            raise Corrupt(place, "a row that was not found may be hidden")

    @property
    def places(self) -> Mapping[str, str]:
        """The damaged places, each with a sentence."""
        return self._places

    def sentence(self) -> str | None:
        """What a probe answers; None if nothing is known to be damaged."""
        places = list(self._places.values())
        if not places:
            return None
        more = f" (and {len(places) - 1} more places)" if len(places) > 1 else ""
        return f"{places[0]}{more}: run `huahuo doctor`"
