"""A node or a service that begins: how far it is, and which file of its directory is none."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from huahuo.app import foundation, nodes, service_port
from huahuo.app.config import Settings
from huahuo.app.credentials import Keys
from huahuo.app.foundation import KeyFile, must_be_files
from huahuo.app.nodes import follow
from huahuo.app.service_port import WaitingRoom
from huahuo.app.workers import open_port
from huahuo.cli.doctor import examine
from huahuo.cluster import members
from huahuo.cluster.members import Member
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import Ordered
from huahuo.eventstore.sqlite.log import held_in, open_log
from huahuo.options import table
from huahuo.transport.server.server import Server
from tests.support.drivers.http import client as http_client
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.storing import stored
from tests.support.worlds.wire import until

PARTS = 100


class Slow(MemorySequencer):
    """Gives proposals up to `upto`, and the rest once `goes_on` is set."""

    def __init__(self, order: MemoryOrder, upto: int) -> None:
        super().__init__(order)
        self.upto = upto
        self.goes_on = asyncio.Event()

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        async for one in super().follow(after):
            if one.offset > self.upto:
                await self.goes_on.wait()
            yield one


@contextlib.asynccontextmanager
async def opened(data: Path, way: MemorySequencer, node: str) -> AsyncIterator[ReplicaWriter]:
    log = await open_log(
        data, ambient=SystemAmbient(), master_key=MASTER_KEY, build="t", sequencer=way, node=node
    )
    assert isinstance(log.writer, ReplicaWriter)
    yield log.writer
    await log.close()


async def ask(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: node\r\n\r\n" % path.encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.strip()


async def long_order(data: Path) -> MemoryOrder:
    """The order of a node that lives no more, with proposals of strangers behind its own."""
    order = MemoryOrder()
    async with opened(data, MemorySequencer(order), "a") as writer:
        await writer.joined()
    while order.last < 2 * PARTS:
        order.put(b"of another log")
    return order


async def test_readyz_says_how_far_a_node_is_that_follows_from_the_beginning(tmp_path: Path) -> None:
    order = await long_order(tmp_path / "a")
    way = Slow(order, PARTS)
    async with opened(tmp_path / "b", way, "b") as writer:
        with held_port() as port:
            async with WaitingRoom("127.0.0.1", port) as room:
                await room.open()
                following = asyncio.create_task(follow(writer, room))
                half = f"this node applies what was ordered before it started: {PARTS} of {order.last}"
                await until(lambda: room.said == half)
                assert await ask(port, "/readyz") == (503, half)
                assert await ask(port, "/healthz") == (200, "ok")
                way.goes_on.set()
                await following


async def test_a_node_that_cannot_go_on_ends_with_the_reason(tmp_path: Path) -> None:
    way = Slow(await long_order(tmp_path / "a"), PARTS)
    async with opened(tmp_path / "b", way, "b") as writer:
        room = WaitingRoom("127.0.0.1", 0)
        following = asyncio.create_task(follow(writer, room))
        await until(lambda: writer.shared.offset == PARTS)
        writer.halt("the log went back")
        with pytest.raises(ConfigError, match="this node can't go on: the log went back"):
            await following


async def test_a_node_that_runs_while_what_it_needs_is_trimmed_says_that_a_start_helps(
    tmp_path: Path,
) -> None:
    order = await long_order(tmp_path / "a")
    async with opened(tmp_path / "b", Slow(order, 1), "b"):
        pass
    order.trim(PARTS)
    async with opened(tmp_path / "b", MemorySequencer(order), "b") as writer:
        with pytest.raises(ConfigError, match="Start this node again: it fetches a copy"):
            await follow(writer, WaitingRoom("127.0.0.1", 0))


async def test_who_connects_and_asks_nothing_does_not_keep_the_node_from_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_port, "_HEAD_S", 10 * WITHIN_S)
    with held_port() as port:
        async with asyncio.timeout(WITHIN_S):
            async with WaitingRoom("127.0.0.1", port) as room:
                await room.open()
                silent, writer = await asyncio.open_connection("127.0.0.1", port)
                assert (await ask(port, "/healthz"))[0] == 200, "it was taken before this one"
            with contextlib.suppress(ConnectionResetError):
                assert await silent.read() == b""
        writer.close()


class Service:
    """Answers 204 on the sockets that it is given. Before it does, a client connects and asks."""

    def __init__(self) -> None:
        self.serving: list[asyncio.Server] = []
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def begin(self) -> None:
        """See `Server`."""

    async def serve_on(self, sock: socket.socket) -> None:
        self.clients.append(await asyncio.open_connection(*sock.getsockname()))
        self.clients[-1][1].write(b"GET /readyz HTTP/1.1\r\n\r\n")
        self.serving.append(await asyncio.start_server(self._answer, sock=sock))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


async def test_a_client_that_comes_while_the_service_takes_the_port_over_is_served_by_it() -> None:
    service = Service()
    with held_port() as port:
        room = WaitingRoom("127.0.0.1", port)
        await room.open()
        assert (await ask(port, "/readyz"))[0] == 503
        assert await open_port(cast("Server", service), Settings(port=port), None, room) == port
        [(reader, writer)] = service.clients
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
        assert (await ask(port, "/readyz"))[0] == 204
        for one in service.serving:
            one.close()
            await one.wait_closed()


async def test_a_copy_that_a_trim_overtook_is_asked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await long_order(tmp_path / "a")
    async with opened(tmp_path / "old", Slow(order, 1), "old"):
        pass
    old = held_in(tmp_path / "old")
    assert old is not None
    asked: list[int] = []

    async def fetch(data: Path, *_: object) -> str:
        """Give a copy that is too old by now, then one that is not."""
        asked.append(int(str(_[-1])))
        order.trim(old.offset + 2 if len(asked) == 1 else 0)
        shutil.copytree(tmp_path / ("old" if len(asked) == 1 else "a"), data, dirs_exist_ok=True)
        return "a"

    async def living(*_: object) -> dict[str, Member]:
        return {}

    monkeypatch.setattr(nodes, "fetch_copy", fetch)
    monkeypatch.setattr(members, "living_nodes", living)
    monkeypatch.setattr(nodes, "COPY_FROM", 1)
    secrets = Keys(b"j" * 32, MASTER_KEY)
    room = WaitingRoom("127.0.0.1", 0)
    settings = Settings(data=tmp_path / "b")
    await nodes.join(settings, secrets, SystemAmbient(), MemorySequencer(order), "b", room)
    assert asked == [1, old.offset + 2]
    assert held_in(tmp_path / "b") == held_in(tmp_path / "a")


OF_LOG = ("log.db", "log.db-wal", "log.db-shm", "log.mark", "writer.lock", "master.key", "jwt.secret")
MADE_AGAIN = ("mail-search.db", "mail-search.db-wal", "audit.db", "service.json")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that a service left."""
    data = tmp_path_factory.mktemp("left") / "data"

    async def serve() -> None:
        async with stored(data) as s, s.client(1, admin=True) as client:
            await client.send("publish", stream="group/ops", type="said", text="kept")

    asyncio.run(serve())
    return data


@pytest.fixture
def data(left: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left, tmp_path / "data"))


async def starts(data: Path) -> bool:
    async with stored(data) as s:
        return s.app.log.head("group/ops").seq == 1


@pytest.mark.parametrize("name", [*OF_LOG, *MADE_AGAIN])
async def test_a_directory_in_place_of_a_file_is_named_with_what_to_do(data: Path, name: str) -> None:
    path = data / name
    former = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(ConfigError, match=rf"{name} is a directory, and a file belongs there: move it away"):
        await starts(data)
    path.rmdir()
    if former is not None:
        path.write_bytes(former)
    assert await starts(data), "nothing was harmed"


@pytest.mark.parametrize("name", OF_LOG)
async def test_a_link_to_a_disk_that_is_not_mounted_is_never_a_loss(
    data: Path, tmp_path: Path, name: str
) -> None:
    path, elsewhere = data / name, tmp_path / "disk" / name
    former = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)
    with pytest.raises(
        ConfigError, match=rf"{name} is a link to .*, and there is nothing: .* mount it"
    ) as told:
        await starts(data)
    assert "salvage" not in str(told.value)
    assert path.is_symlink()
    path.unlink()
    if former is not None:
        path.write_bytes(former)
    assert await starts(data)


@pytest.mark.parametrize("name", MADE_AGAIN)
async def test_what_can_be_made_again_needs_no_file_where_its_link_leads(
    data: Path, tmp_path: Path, name: str
) -> None:
    (data / name).unlink(missing_ok=True)
    (data / name).symlink_to(tmp_path / "disk" / name)
    assert await starts(data)


@pytest.mark.parametrize("name", [*OF_LOG, "mail-search.db"])
async def test_a_link_to_itself_and_a_pipe_are_named(data: Path, name: str) -> None:
    path = data / name
    path.unlink(missing_ok=True)
    path.symlink_to(path)
    with pytest.raises(ConfigError, match=f"{name} cannot be looked at"):
        await starts(data)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=f"{name} is not a regular file"):
        await starts(data)


def test_a_file_that_this_user_may_not_use_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, which may use all."""
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "log.mark")
    with pytest.raises(ConfigError, match=r"log\.mark cannot be read and written by this user"):
        must_be_files(Settings(data=data), ())


def test_a_directory_that_this_user_may_not_write_in_is_named_before_the_start_and_by_doctor(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, which may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, _mode: path != data)
    data.chmod(0o555)
    with pytest.raises(ConfigError, match=rf"may not write in .*data: chmod 700 {data}$"):
        must_be_files(Settings(data=data), ())
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = asyncio.run(examine(settings, SystemAmbient(), {}))
    assert ["may not write in" in one.text for one in findings if one.about == "files"] == [True]
    data.chmod(0o700)
    with pytest.raises(ConfigError, match=r"may not write in .*: its disk can only be read"):
        must_be_files(Settings(data=data), ())


def test_a_directory_of_another_user_is_named_and_nothing_is_to_be_moved(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, which may enter all."""

    def denied(_path: Path, **_kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as outside:
        outside.setattr(Path, "stat", denied)
        with pytest.raises(
            ConfigError, match=r"may not enter the directory of .*: start as its owner"
        ) as told:
            must_be_files(Settings(data=data), ())
    assert "move" not in str(told.value).lower()


@pytest.mark.parametrize("name", ["master.key", "jwt.secret"])
async def test_the_file_of_a_key_that_is_given_is_not_looked_at(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / name).symlink_to(tmp_path / "disk" / name)
    async with stored(data, master_key="cd" * 32, jwt_secret="a" * 64):
        pass
    assert (data / name).is_symlink()


async def test_doctor_names_it_too(data: Path) -> None:
    (data / "mail-search.db").unlink(missing_ok=True)
    (data / "mail-search.db").mkdir()
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = await examine(settings, SystemAmbient(), {})
    [told] = [one.text for one in findings if one.about == "files"]
    assert "move it away, and the service makes it again" in told


@pytest.mark.parametrize("name", ["master.key", "jwt.secret", "service.json", "log.db"])
async def test_doctor_names_a_pipe_and_does_not_wait_for_what_comes_out_of_it(data: Path, name: str) -> None:
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = await examine(settings, SystemAmbient(), {})
    assert [name in one.text for one in findings if one.about == "files"] == [True]
    assert service_port.read_address(data) is None


@pytest.mark.parametrize("name", ["master.key", "jwt.secret"])
async def test_a_damaged_key_is_refused_with_what_to_do(data: Path, name: str) -> None:
    (data / name).write_bytes(b"\xff\xfe" * 40)
    with pytest.raises(ConfigError, match=f"{name} is damaged.* Put the key that belongs"):
        await starts(data)


async def test_a_service_tells_that_another_program_wrote_its_log_before_and_goes_on(data: Path) -> None:
    async with stored(data):
        pass  # it closes its log in this directory, of which nothing was known
    with contextlib.closing(sqlite3.connect(data / "log.db", isolation_level=None)) as connection:
        assert connection.execute("DELETE FROM meta WHERE key = 'token_key'").rowcount == 1
    async with stored(data) as s, http_client(s.app.url) as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert "ready; log.db was written by another program" in answer.text
        assert "huahuo_log_written_by_others 1.0" in (await http.get("/metrics")).text


KEY = bytes(range(32))


def watched(tmp_path: Path) -> tuple[KeyFile, Path]:
    path = tmp_path / "master.key"
    tmp_path.mkdir(exist_ok=True)
    path.write_text(KEY.hex() + "\n")
    return KeyFile(tmp_path, KEY, InlineExecutor()), path


async def test_a_key_that_was_deleted_is_written_again_with_an_alarm(tmp_path: Path) -> None:
    file, path = watched(tmp_path)
    path.unlink()
    with capture_logs() as logs:
        await file.look()
    assert [(log["event"], log["log_level"]) for log in logs] == [("master_key_gone", "error")]
    assert (path.read_text(), path.stat().st_mode & 0o777) == (KEY.hex() + "\n", 0o600)
    assert file.sentence() is None


async def test_a_key_that_cannot_be_written_again_is_told_of_with_what_would_be_lost(tmp_path: Path) -> None:
    file, path = watched(tmp_path / "data")
    path.unlink()
    path.parent.rmdir()
    with capture_logs() as logs:
        await file.look()
        await file.look()
    assert [log["event"] for log in logs] == ["master_key_lost"], "once"
    told = file.sentence()
    assert told is not None
    assert "no stored password can be read" in told


async def test_a_key_that_a_full_disk_had_no_room_for_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file, path = watched(tmp_path)
    path.unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", is_full)
        await file.look()
    told = file.sentence()
    assert told is not None
    assert "cannot be written again: No space left on device" in told
    assert not path.exists(), "a part of a key is none"
    await file.look()
    assert (path.read_text(), file.sentence()) == (KEY.hex() + "\n", None)


@pytest.mark.parametrize("text", ["ab" * 32 + "\n", "", "no key", "\0" * 5000])
async def test_another_key_in_its_place_is_told_of_until_the_former_one_is_back(
    tmp_path: Path, text: str
) -> None:
    file, path = watched(tmp_path)
    path.write_text(text)
    await file.look()
    told = file.sentence()
    assert told is not None
    assert "keep it running until the former file is back" in told
    assert path.read_text() == text, "it may be somebody's only copy"
    with capture_logs() as logs:
        path.write_text(KEY.hex().upper() + "\u3000\r\n")
        await file.look()
    assert file.sentence() is None
    assert [log["event"] for log in logs] == ["master_key_is_back"]


async def test_readyz_tells_of_another_key_and_the_service_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundation, "KEY_FILE_LOOK_S", 0.01)
    async with stored(tmp_path / "data") as s, http_client(s.app.url) as http:
        path = tmp_path / "data" / "master.key"
        former = path.read_text()
        path.write_text("ab" * 32)
        async with asyncio.timeout(WITHIN_S):
            while "was replaced by another key" not in (answer := await http.get("/readyz")).text:
                pass
        assert answer.status_code == 200, "a supervisor must not restart what has the last copy"
        assert answer.text.startswith("ready; ")
        assert "huahuo_master_key_lost 1.0" in (await http.get("/metrics")).text
        path.write_text(former)
        async with asyncio.timeout(WITHIN_S):
            while (await http.get("/readyz")).text.strip() != "ready":
                pass


async def test_a_start_without_the_key_of_its_log_is_refused_and_makes_none(tmp_path: Path) -> None:
    async with stored(tmp_path / "data"):
        pass
    path = tmp_path / "data" / "master.key"
    former = path.read_text()
    path.unlink()
    with pytest.raises(
        ConfigError, match=r"master\.key is gone, and .*log\.db was made with it: put the key"
    ):
        async with stored(tmp_path / "data"):
            pass
    assert not path.exists()
    path.write_text(former)
    async with stored(tmp_path / "data"):
        pass


async def test_a_start_with_another_key_is_told_what_to_do(tmp_path: Path) -> None:
    async with stored(tmp_path / "data"):
        pass
    (tmp_path / "data" / "master.key").write_text("ab" * 32)
    with pytest.raises(
        HuahuoError, match=r"another master key: put the key that belongs to it into master\.key"
    ):
        async with stored(tmp_path / "data"):
            pass


async def test_a_directory_in_its_place_is_told_of(tmp_path: Path) -> None:
    file, path = watched(tmp_path)
    path.unlink()
    path.mkdir()
    await file.look()
    assert file.sentence() is not None
