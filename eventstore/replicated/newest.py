"""The newest offset of the ordered log, asked for by many at once."""

import asyncio

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.sequencer.port import Sequencer, SequencerError


class Newest:
    """Callers that come while a question is under way share the next one, which begins after they came."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._asking = asyncio.Lock()
        self._asked = self._answered = self._offset = 0

    async def ask(self) -> int:
        """The newest offset, or a later one.

        Raises:
            Unavailable: the ordered log does not answer.
        """
        self._asked += 1
        came = self._asked
        async with self._asking:
            if self._answered < came:
                answered = self._asked
                try:
                    self._offset = await self._sequencer.last()
                except SequencerError as error:
                    raise Unavailable(str(error)) from None
                self._answered = answered
        return self._offset
