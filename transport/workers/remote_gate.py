"""Commands and queries of a worker's clients: the owner executes them."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.transport.commands.running import Done, Running
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh
from huahuo.transport.workers import failures
from huahuo.transport.workers.messages import Ask, Cancel, Failed, Told
from huahuo.transport.workers.pipe import Pipe
from huahuo.transport.workers.questions import Questions
from huahuo.transport.workers.remote_states import RemoteParted

_UNAVAILABLE: Final = error_reply(Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN))
_INTERNAL: Final = error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL))

type Answered = Callable[[Told | Failed], None]


class RemoteGate:
    """Implements `ports.CommandGate`."""

    def __init__(self, questions: Questions, pipe: Pipe) -> None:
        self.told: Callable[[], None] | None = None
        self._questions = questions
        self._pipe = pipe
        self._open: dict[int, Answered] = {}
        self._telling: asyncio.Handle | None = None

    @property
    def running(self) -> int:
        """How many have begun and not ended."""
        return len(self._open)

    async def execute(self, call: Call[Any], spec: Action) -> Reply:  # noqa: ARG002  of the port
        """See `ports.CommandGate`."""
        answer: asyncio.Future[Told | Failed] = asyncio.get_running_loop().create_future()

        def hear(told: Told | Failed) -> None:
            if not answer.done():
                answer.set_result(told)

        n = self._ask(call, hear)
        try:
            told = await answer
        except asyncio.CancelledError:
            if self._open.pop(n, None) is not None:
                self._pipe.send(Cancel(n))
            raise
        if isinstance(told, Failed):
            raise failures.raised(told.kind, told.text)
        reply = self._reply(told)
        return _UNAVAILABLE if reply is None else reply

    def begin(self, call: Call[Any], spec: Action, done: Done) -> Running:  # noqa: ARG002  of the port
        """See `ports.CommandGate`."""
        run = Running(call, done, None)

        def hear(told: Told | Failed) -> None:
            run.over = True
            if isinstance(told, Told):
                run.tell(self._reply(told))
            else:
                run.tell(_UNAVAILABLE if told.kind else _INTERNAL)
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_soon(self._all_told)

        self._ask(call, hear)
        return run

    def has_room(self, user: str) -> bool:
        """See `CommandGate`. The owner holds back what its user has no room for."""
        del user
        return True

    def record(self, call: Call[Any], reply: Reply, done: Done) -> Running:  # noqa: ARG002  of the port
        """Never called: only the owner checks the fields of a command."""
        raise RuntimeError(f"a worker leaves {call.action} to its owner")

    def answered(self, told: Told | Failed) -> bool:
        """An answer came; returns whether it is to one of these questions."""
        hear = self._open.pop(told.n, None)
        if hear is not None:
            hear(told)
        return hear is not None

    def give_up(self) -> None:
        """The owner is gone."""
        asked, self._open = self._open, {}
        for n, hear in asked.items():
            hear(Failed(n, failures.UNAVAILABLE, ""))

    def _ask(self, call: Call[Any], hear: Answered) -> int:
        n = self._questions.number()
        self._open[n] = hear
        key = None if call.key is None else (call.key.client, call.key.id)
        self._pipe.send(
            Ask(
                n,
                call.principal,
                call.session,
                call.action,
                call.params,
                call.command_id,
                key,
                call.fingerprint,
            )
        )
        return n

    def _reply(self, told: Told) -> Reply | None:
        if told.body is None:
            return None
        parted = RemoteParted.of(self._questions, told.parted) if told.parted else None
        return Reply(told.body, told.at, told.recorded, told.duplicate, parted)

    def _all_told(self) -> None:
        self._telling = None
        if self.told is not None:
            self.told()
