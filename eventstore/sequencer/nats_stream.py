"""The JetStream stream that holds an ordered log, and one ordered consumer of it.

The stream is made once, and its settings are compared at each start. The consumer reads messages from a
sequence on. It ends whenever it was silent for `SILENT_S`, or its connection ended; then it is made anew.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from nats.aio.msg import Msg

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.nats_link import ERRORS, ApiError, Link
from huahuo.eventstore.sequencer.port import Misconfigured, Unreachable

NOT_FOUND, TAKEN = 10059, 10058
TOO_FEW_SERVERS = {10005, 10074}
NO_JETSTREAM = {10039, 10076}
STORE_FAILED, NO_ROOM = 10077, {10023, 10047}
FULL_LINE = "nats stream edit {name} --max-msgs=-1 --max-bytes=-1"
QUORUM_S = 3.0
"""A leader which a majority answered within this time is the only one: its followers wait at least 4 s before
they elect another."""
MONITOR_S = 3.0
PAGE_BYTES_MAX = 1 << 20
_WANTED: dict[str, tuple[object, str]] = {
    "storage": ("file", "it keeps proposals in memory: delete the stream, or use another ?name="),
    "retention": ("limits", "nats stream edit {name} --retention limits"),
    "discard": ("new", "nats stream edit {name} --discard new"),
    "max_age": (0, "nats stream edit {name} --max-age 0"),
    "max_msgs_per_subject": (-1, "nats stream edit {name} --max-msgs-per-subject=-1"),
    "deny_delete": (True, "nats stream edit {name} --deny-delete"),
    "allow_rollup_hdrs": (False, "nats stream edit {name} --no-allow-rollup"),
    "no_ack": (False, "nats stream edit {name} --ack"),
    "sealed": (False, "it is sealed: use another ?name="),
    "deny_purge": (False, "it can never be trimmed (deny_purge): use another ?name="),
    "persist_mode": ("", "it acknowledges before it has written (persist_mode): use another ?name="),
    "mirror": (None, "it is a copy of another stream: use that one"),
    "sources": (None, "it takes messages of other streams: use another ?name="),
    "subject_transform": (None, "nats stream edit {name} without a subject transform"),
}
"""Settings of the stream, and what to do where one is another."""
_ABSENT: dict[str, object] = {"max_msgs_per_subject": -1, "persist_mode": ""}


class NoJetStream(Misconfigured):
    """The server serves no JetStream."""


class Stream(NamedTuple):
    """What JetStream says about the stream."""

    created: str
    first: int
    last: int
    replicas: int
    doubt: str
    """Why there may be a newer message; "" if a leader says this that has heard a majority in `QUORUM_S`."""
    clustered: bool
    full_at: str
    """The bound at which it takes nothing more, "" for none."""


def subject_of(address: LogAddress) -> str:
    """Where proposals are published."""
    return f"{address.name}.proposals"


async def look(link: Link, address: LogAddress) -> Stream:
    """Ask for the stream's state; make it if there is none.

    Raises:
        Unreachable: there is no answer, or too few servers to make it.
        Misconfigured: its settings may lose what it acknowledged.
    """
    try:
        try:
            found = await link.ask(f"STREAM.INFO.{address.name}")
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            found = await _make(link, address)
    except ApiError as error:
        if error.code in NO_JETSTREAM:
            raise NoJetStream(
                f"{link.host} serves no JetStream to this account. Put into its configuration:"
                ' jetstream { store_dir: "/var/lib/nats", sync_interval: always }'
            ) from None
        raise Unreachable(f"{link.host}: {error}") from None
    compare(found["config"], address)
    return _state_of(found)


def compare(config: dict[str, Any], address: LogAddress) -> None:
    """Compare the settings of the stream with those that keep what it acknowledges.

    Raises:
        Misconfigured: one differs; the text has the line to change it.
    """
    for setting, (wanted, line) in _WANTED.items():
        found = config.get(setting, _ABSENT.get(setting, wanted if wanted in {None, 0} else False))
        if setting == "persist_mode" and found == "default":
            found = ""
        if found != wanted:
            raise Misconfigured(
                f"the stream {address.name} has {setting} = {found!r}, which may lose or reorder what it"
                f" acknowledged: {line.format(name=address.name)}"
            )
    if config.get("subjects") != [subject_of(address)]:
        raise Misconfigured(
            f"the stream {address.name} belongs to something else (subjects {config.get('subjects')}):"
            " use another ?name="
        )
    if config.get("max_msg_size", -1) > 0:
        raise Misconfigured(
            f"the stream {address.name} takes no message over {config['max_msg_size']} bytes, so a larger"
            f" commit would wait for ever: nats stream edit {address.name} --max-msg-size=-1"
        )
    asked = int(address.options.get("replicas", "0"))
    if config.get("num_replicas", 1) < asked:
        raise Misconfigured(
            f"the stream {address.name} is kept by {config.get('num_replicas', 1)} servers, not by {asked}:"
            f" nats stream edit {address.name} --replicas {asked}"
        )


async def _make(link: Link, address: LogAddress) -> Any:
    clustered = bool(link.client._server_info.get("cluster"))  # noqa: SLF001  the client has no other door to it
    replicas = int(address.options.get("replicas", "3" if clustered else "1"))
    config = {
        "name": address.name,
        "subjects": [subject_of(address)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "deny_purge": False,
    }
    try:
        return await link.ask(f"STREAM.CREATE.{address.name}", config)
    except ApiError as error:
        if error.code == TAKEN:  # another node made it at the same time
            return await link.ask(f"STREAM.INFO.{address.name}")
        if error.code in TOO_FEW_SERVERS:
            raise Unreachable(
                f"the log is to be kept by {replicas} servers, and fewer of them answer ({error});"
                " to try it on fewer, add ?replicas=1"
            ) from None
        raise


def _state_of(found: Any) -> Stream:
    state, cluster = found["state"], found.get("cluster") or {}
    others = cluster.get("replicas") or []
    replicas = found["config"].get("num_replicas", 1)
    heard = sum(not other.get("offline") and other.get("active", 0) < QUORUM_S * 1e9 for other in others)
    doubt = ""
    if replicas > 1 and not cluster.get("leader"):
        # Any server answers then, also one that was cut off, and it lists itself among those it has heard.
        doubt = "the log has no leader now"
    elif replicas > 1 and 1 + heard <= replicas // 2:
        doubt = "the log's leader has not heard from a majority of its servers lately"
    return Stream(
        created=found["created"],
        # A stream that never had a message says 0.
        first=max(state["first_seq"], 1),
        last=state["last_seq"],
        replicas=replicas,
        doubt=doubt,
        clustered=bool(cluster.get("name")),
        full_at=_full_at(found["config"]),
    )


def _full_at(config: dict[str, Any]) -> str:
    bounds = (("max_msgs", "proposals"), ("max_bytes", "bytes"))
    return " or ".join(f"{config[name]} {what}" for name, what in bounds if config.get(name, -1) > 0)


def refused_line(name: str, code: int, why: str) -> str:
    """What to do where JetStream refuses a proposal with this code and text; "" if that is not known."""
    if code == STORE_FAILED and why.startswith("maximum"):
        return f": {FULL_LINE.format(name=name)}"
    if code in NO_ROOM or code == STORE_FAILED:
        return ": the disk of a NATS server may be full: give it room, and restart it"
    return ""


async def check_monitors(address: LogAddress, replicas: int) -> list[str]:
    """Ask the servers' monitoring pages whether they sync before they acknowledge. Returns warnings.

    Raises:
        Misconfigured: a server does not.
    """
    line = "jetstream { sync_interval: always }"
    monitors = [url for url in address.options.get("monitor", "").split(",") if url]
    warnings = []
    for url in monitors:
        shown = urlsplit(url).netloc.rpartition("@")[2]
        found = await _jsz(url)
        if found is None:
            warnings.append(f"the monitoring page at {shown} can't be read: is sync_interval there 'always'?")
        elif found.get("disabled"):
            warnings.append(
                f"the NATS server at {shown} serves no JetStream now: its log says why (a full disk, or no"
                " `jetstream` in its configuration)"
            )
        elif not found.get("config", {}).get("sync_always"):
            raise Misconfigured(
                f"the NATS server at {shown} acknowledges before it has synced its disk, and loses that in"
                f" a power cut. Put into its configuration, and restart it: {line}"
            )
    if len(monitors) < replicas:
        warnings.append(
            f"could not check whether all {replicas} NATS servers sync before they acknowledge: put"
            f" `{line}` into each one's configuration, and ?monitor=http://host:8222,… into the address"
        )
    if replicas == 1:
        warnings.append("the log is kept by one NATS server: what it acknowledged is lost with its disk")
    return warnings


async def _jsz(url: str) -> Any:
    """The page about JetStream; None if it can't be read."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return None
    secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(MONITOR_S):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None
            )
            try:
                path = f"{parts.path.rstrip('/')}/jsz?config=1"
                # HTTP/1.0: the answer ends with the connection.
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.hostname}\r\n\r\n".encode())
                answer = await reader.read(PAGE_BYTES_MAX)
                while more := await reader.read(PAGE_BYTES_MAX):
                    answer += more
                    if len(answer) > PAGE_BYTES_MAX:
                        return None
            finally:
                writer.close()
    except (OSError, ValueError):  # TimeoutError is an OSError
        return None
    try:
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


SILENT_S = 3.0
PULL, PULL_S, BEAT_S = 128, 30.0, 1.0
"""The consumer is asked for 128 messages or 30 s, and says each second that it lives."""


async def consume(link: Link, address: LogAddress, name: str, first: int) -> AsyncGenerator[Msg]:
    """Messages from sequence `first` on, until something is wrong. `name`: of the consumer, used once."""
    queue: asyncio.Queue[Msg | None] = asyncio.Queue()
    forget = link.on_end(lambda: queue.put_nowait(None))
    inbox = link.client.new_inbox()

    async def hear(message: Msg) -> None:
        queue.put_nowait(message)

    subscription = await link.client.subscribe(inbox, cb=hear)
    api = f"{address.name}.{name}"
    try:
        await link.ask(
            f"CONSUMER.CREATE.{api}", {"stream_name": address.name, "config": _consumer(name, first)}
        )
        left = 0
        while not link.ended.is_set():
            if left == 0:
                ask = {
                    "batch": PULL,
                    "expires": round(PULL_S * 1e9),
                    "idle_heartbeat": round(BEAT_S * 1e9),
                }
                body = msgspec.json.encode(ask)
                await link.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{api}", body, reply=inbox)
                left = PULL
            try:
                async with asyncio.timeout(SILENT_S):
                    message = await queue.get()
            except TimeoutError:
                raise Unreachable(f"{link.host} says nothing any more") from None
            if message is None:
                return
            status = message.headers.get("Status") if message.headers else None
            if status is None:
                left -= 1
                yield message
            elif status == "408":
                left = 0
            elif status != "100":
                return
    finally:
        forget()
        if not link.ended.is_set():
            with contextlib.suppress(*ERRORS):
                await subscription.unsubscribe()
                # No answer is waited for: the server forgets the consumer by itself too.
                await link.client.publish(f"$JS.API.CONSUMER.DELETE.{api}", b"")


def _consumer(name: str, first: int) -> dict[str, Any]:
    return {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": round(2 * PULL_S * 1e9),
    }
