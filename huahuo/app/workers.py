"""The workers of a service and its port: started, watched, replaced when they die, and drained at the end.

`of_transport` and `of_entities` give the settings of the service as the bounds of its floors.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from huahuo.actors.entities.directory import DirectoryLimits
from huahuo.actors.plugins.calls import UserId
from huahuo.app import service_port
from huahuo.app.config import Settings
from huahuo.app.process import Parts, limit_bytes
from huahuo.app.service_port import WaitingRoom
from huahuo.errors import ConfigError, HuahuoError
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.server import BACKLOG, Server
from huahuo.transport.workers.channel import Manners, WorkerPort
from huahuo.transport.workers.desk import Desk, tell_commits
from huahuo.transport.workers.owner import Owner, share
from huahuo.transport.workers.worker import Taker, merged_metrics

WORKER_MODULE: Final = "huahuo.embedding.worker_process"
WORKER_START_S: Final = 30.0
"""For how long a worker may start."""
WORKER_SILENT_S: Final = 10.0
"""A worker that says nothing for this long is killed and replaced."""
WORKER_STEADY_S: Final = 5.0
"""A worker that lived this long is replaced at once, any other after a pause."""
_PAUSES_S: Final = (0.1, 0.5, 2.0, 5.0)
_LOOK_S: Final = 1.0
_ANSWER_S: Final = 1.0

_log = structlog.get_logger(__name__)


class _Seat:
    """One worker's place: its number and its sockets stay when its process is replaced."""

    def __init__(self, number: int, listeners: list[socket.socket]) -> None:
        self.number = number
        self.listeners = listeners
        self.addresses = [(sock.family, sock.getsockname()) for sock in listeners]
        self.desk: Desk | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.silent = False
        self.restarts = 0

    def close(self) -> None:
        """Accept no more, and turn away what waits: those clients reach another worker."""
        for sock in self.listeners:
            sock.close()


class Fleet:
    """The workers of a service: started, watched, replaced when they die, and drained at the end.

    `start`, then `drain`.
    """

    def __init__(self, owner: Owner, count: int) -> None:
        self._owner = owner
        self._count = count
        self._seats: list[_Seat] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._ending = False
        self._unlisten: Callable[[], None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    @property
    def restarts(self) -> int:
        """How many workers were replaced."""
        return sum(seat.restarts for seat in self._seats)

    @property
    def desks(self) -> list[Desk]:
        """The workers that are there now."""
        return [seat.desk for seat in self._seats if seat.desk is not None]

    @property
    def waiting_bytes(self) -> int:
        """What waits to be sent to workers."""
        return sum(desk.channel.waiting_bytes for desk in self.desks)

    async def start(self, host: str, port: int, bound: list[list[socket.socket]] | None = None) -> int:
        """Start all workers; returns the port when all of them listen. `bound`: their sockets, if made.

        Raises:
            OSError: the address is not available.
            HuahuoError: a worker did not start.
        """
        sockets = bound or await service_port.bind_port(host, port, self._count)
        self._seats = [_Seat(number, of_one) for number, of_one in enumerate(sockets, 1)]
        for sock in (sock for of_one in sockets for sock in of_one):
            _listening(sock)
        self._unlisten = tell_commits(self._owner.log, lambda: self.desks)
        self._owner.server.rejudging.also = self._rejudge
        self._keeping = [asyncio.create_task(self._keep(seat)) for seat in self._seats]
        await self._all_ready()
        self._watching = asyncio.create_task(self._watch())
        return int(sockets[0][0].getsockname()[1])

    async def drain(self, timeout_s: float) -> None:
        """Let all workers close their connections and end. Kills those that do not in time. Idempotent."""
        self._ending = True
        for seat in self._seats:
            seat.close()
            if seat.desk is not None:
                seat.desk.channel.say(WorkerPort.end, timeout_s)
        if self._watching is not None:
            self._watching.cancel()
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=timeout_s)
            if late:
                self._kill_all()
                await asyncio.wait(late, timeout=_ANSWER_S)
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    async def look_at_positions(self) -> None:
        """Ask all workers where their clients stand, for `Hub.clients`."""
        await asyncio.gather(*(desk.look_at_positions(_ANSWER_S) for desk in self.desks))

    async def metrics(self) -> bytes:
        """The metrics of all processes, in Prometheus' text format."""
        seats = list(self._seats)
        found = await asyncio.gather(*(_metrics(seat) for seat in seats))
        return merged_metrics(
            self._owner.metrics, {seat.number: one for seat, one in zip(seats, found, strict=True)}
        )

    def _rejudge(self, stream: str | None, user_id: UserId | None) -> None:
        for desk in self.desks:
            desk.channel.say(WorkerPort.rejudge, stream, user_id)

    # Processes ----------------------------------------------------------------------------------------

    async def _all_ready(self) -> None:
        everything = asyncio.create_task(self._ready())
        try:
            await asyncio.wait(
                {everything, *self._keeping}, timeout=WORKER_START_S, return_when="FIRST_COMPLETED"
            )
            for task in self._keeping:
                if task.done():
                    task.result()
            if not everything.done():
                raise HuahuoError(f"the workers did not start within {WORKER_START_S:g} s")
        finally:
            everything.cancel()

    async def _ready(self) -> None:
        for seat in self._seats:
            await seat.ready.wait()

    async def _keep(self, seat: _Seat) -> None:
        """Keep one worker running until the drain. Raises HuahuoError: it ended before it was ever ready."""
        loop = asyncio.get_running_loop()
        quick = 0
        while not self._ending:
            began_s = loop.time()
            code = await self._live(seat)
            if self._is_ending():
                return
            if not seat.ready.is_set():
                raise HuahuoError(f"worker {seat.number} ended before it was ready, with exit code {code}")
            seat.restarts += 1
            quick = 0 if loop.time() - began_s >= WORKER_STEADY_S else quick + 1
            pause_s = _PAUSES_S[min(quick, len(_PAUSES_S)) - 1] if quick else 0.0
            _log.error("worker_ended", worker=seat.number, exit_code=code, restarts_in_s=pause_s)
            if quick > 1:  # else what the kernel accepted meanwhile waits for the next process
                seat.close()
                await asyncio.sleep(pause_s)
                if not self._is_ending():
                    seat.listeners = [_listening(again) for again in service_port.bind_again(seat.addresses)]
            else:
                await asyncio.sleep(pause_s)

    def _is_ending(self) -> bool:
        return self._ending

    async def _live(self, seat: _Seat) -> int:
        """One process from its start to its end; returns its exit code."""
        ours, theirs = socket.socketpair()
        taking, giving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            inherited = (theirs.fileno(), giving.fileno(), *(sock.fileno() for sock in seat.listeners))
            seat.process = process = await _spawn(inherited)
        except BaseException:
            for sock in (ours, taking):
                sock.close()
            raise
        finally:
            theirs.close()
            giving.close()
        taker = Taker(taking, self._adopt)
        desk = Desk(self._owner, ready=seat.ready.set, lost=lambda: self._lost(seat, process))
        try:
            await desk.channel.open(ours)
            desk.greet(seat.number)
            seat.desk, seat.silent = desk, False
            if self._ending:
                desk.channel.say(WorkerPort.end, 0.0)
            return await process.wait()
        finally:
            seat.desk = seat.process = None
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            desk.channel.close()
            taker.close()

    def _lost(self, seat: _Seat, process: asyncio.subprocess.Process) -> None:
        """The pipe of a worker is over. Its process must not serve without it."""
        if seat.process is process:
            seat.desk = None
            if not self._ending and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    def _adopt(self, sock: socket.socket, data: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(sock, data))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, sock: socket.socket, data: bytes) -> None:
        try:
            await self._owner.server.handshakes.adopt(sock, data)
        except OSError:  # the client is gone
            sock.close()

    async def _watch(self) -> None:
        """Kill workers that are stuck or stopped: their clients wait for nothing."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = self._owner.ambient.monotonic_s()
            for seat in self._seats:
                desk, process = seat.desk, seat.process
                silent = desk is not None and now_s - desk.channel.heard_s > WORKER_SILENT_S
                if silent and seat.silent and process is not None:  # not only because we were held up
                    _log.error("worker_silent", worker=seat.number, seconds=WORKER_SILENT_S)
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                seat.silent = silent

    def _kill_all(self) -> None:
        for seat in self._seats:
            if seat.process is not None and seat.process.returncode is None:
                _log.error("worker_left_behind", worker=seat.number)
                with contextlib.suppress(ProcessLookupError):
                    seat.process.kill()


def _listening(sock: socket.socket) -> socket.socket:
    """Begin now: what the kernel accepts meanwhile waits for the worker."""
    sock.listen(BACKLOG)
    return sock


async def _metrics(seat: _Seat) -> bytes | None:
    return None if seat.desk is None else await seat.desk.samples(_ANSWER_S)


async def _spawn(inherited: Sequence[int]) -> asyncio.subprocess.Process:
    """Start a worker in our process group: a signal to the group reaches it too."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", WORKER_MODULE, str(os.getpid()), *map(str, inherited)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=inherited,
    )


async def open_port(
    server: Server, settings: Settings, fleet: Fleet | None = None, room: WaitingRoom | None = None
) -> int:
    """Listen, and return the port. `fleet`: its workers listen. `room`: listens there until now.

    Raises:
        ConfigError: the address is not available.
        HuahuoError: a worker did not start.
    """
    sockets = [] if room is None else await room.hand_over()
    try:
        if fleet is not None:
            server.begin()
            try:
                return await fleet.start(settings.host, settings.port, sockets)
            except BaseException:
                await fleet.drain(0.0)
                raise
        if not sockets:
            return await server.start(settings.host, settings.port)
        server.begin()
        for sock in sockets[0]:
            await server.serve_on(sock)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there. Stop it, or choose another --port (0: any free one)"
        elif error.errno == errno.EMFILE:
            bound = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            why = f"this process may open {bound} files only. Raise that (`ulimit -n 65536`, LimitNOFILE=)"
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {why}") from None
    return settings.port


def tell_address(settings: Settings, url: str, parts: Parts | None) -> None:
    """Write the address into the data directory until `parts` stop (None: do not), and warn if it is open."""
    if parts is not None:
        service_port.write_address(settings.data, url)
        parts.add("service.json", lambda: service_port.remove_address(settings.data))
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        _log.warning("listening in the open without TLS: put a TLS proxy in front", host=settings.host)


_OF_MEMORY: Final = 8
"""One part in this many is for bodies and messages on their way in."""
_INTAKE_BYTES_MAX: Final = 512 << 20


def of_entities(settings: Settings) -> DirectoryLimits:
    """How many entities stay in memory, and how long."""
    return DirectoryLimits(
        idle_s=settings.entity_idle_s,
        residents_max=settings.entities_resident,
        weight_max=settings.entities_bytes_max,
    )


def tail_bytes_max(settings: Settings) -> int:
    """What each process may keep of recent events: the owner and its workers share the bound."""
    return settings.tail_bytes_max // (settings.workers + 1 if settings.workers > 1 else 1)


def of_transport(settings: Settings) -> TransportSettings:
    """Copy every setting that has the same name there. Fields without a setting keep their default."""
    wire = msgspec.convert(settings, TransportSettings, from_attributes=True)
    memory_bytes = settings.memory_bytes_max or limit_bytes()
    intake_bytes = min(memory_bytes // _OF_MEMORY, _INTAKE_BYTES_MAX)
    if settings.workers > 1:  # theirs, what the owner has of theirs, and its own
        intake_bytes //= 3
    return msgspec.structs.replace(
        wire,
        unauthenticated_per_address=settings.unauthenticated_per_ip,
        intake_bytes_max=intake_bytes,
    )


def manners(settings: Settings, dictionary: bytes) -> Manners:
    """What a worker is told of the settings."""
    return Manners(
        settings=share(of_transport(settings), settings.workers),
        dictionary=dictionary,
        language=settings.language,
        trusted_proxies=settings.trusted_proxies,
        tail_events_max=settings.tail_events_max,
        tail_bytes_max=tail_bytes_max(settings),
        log_level=settings.log_level,
        log_json=settings.log_json,
    )


def fleet(owner: Owner, settings: Settings) -> Fleet:
    """The workers, not started, with what the owner's metrics say of them."""
    made, metrics = Fleet(owner, settings.workers), owner.metrics
    metrics.gauge("workers", "Processes that serve WebSockets.", lambda: len(made.pids))
    metrics.total("worker_restarts", "Workers that were replaced.", lambda: made.restarts)
    metrics.gauge(
        "worker_queue_bytes", "Commits and answers not sent to workers.", lambda: made.waiting_bytes
    )
    return made
