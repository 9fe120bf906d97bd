"""How nodes and the servers of an ordered log prove who they are: certificates and files, real servers."""

import asyncio
import contextlib
import datetime as dt
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sequencer.address import FileUnusable, LogAddress, SignInRefused
from huahuo.eventstore.sequencer.opening import RemoteSequencer, sequencer_at
from huahuo.eventstore.sequencer.port import Unreachable
from tests.support.patience import WITHIN_S
from tests.support.servers.nats import NatsServers, nats_servers
from tests.support.servers.nats_operator import with_operator
from tests.support.servers.postgres import Postgres, postgres
from tests.support.servers.tls import Authority
from tests.support.worlds.sequencers import answered, put

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Secured:
    """The two servers, with certificates of `authority`; `folder` has what an operator would hand out."""

    def __init__(self, folder: Path, authority: Authority, nats: NatsServers, database: Postgres) -> None:
        self.folder = folder
        self.authority = authority
        self.urls = {"nats": nats.url, "postgres": database.url}
        self.options = {"nats": ("ca", "cert", "key"), "postgres": ("sslrootcert", "sslcert", "sslkey")}

    def url(self, kind: str, name: str, *, ca: str = "ca.pem", own: str = "", key: str = "") -> str:
        """The address of a log of its own. `ca`, `own`, `key`: files in `folder`."""
        files = zip(self.options[kind], (ca, own, key), strict=True)
        # A path that is absolute stays as it is.
        more = "".join(f"&{option}={self.folder / file}" for option, file in files if file)
        return f"{self.urls[kind]}?name={name}{more}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """They take only clients with a certificate."""
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    authority.server_files(folder, "127.0.0.1")
    (folder / "ca.pem").write_text(authority.pem())
    (folder / "stranger.pem").write_text(Authority().pem())
    authority.client_files(folder, "node")
    Authority().client_files(folder, "foreign")
    _lock(folder / "node.key", folder / "locked.key")
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem"'
    with nats_servers(extra=f"tls {{ {files}, verify: true }}\n") as nats, postgres() as database:
        database.take_only_tls(folder)
        yield Secured(folder, authority, nats, database)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The collector warns of what was left open, in the test that left it."""
    yield
    gc.collect()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A log of its own for each test."""
    return f"t{abs(hash(request.node.nodeid)) % 10**12}"


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[RemoteSequencer]:
    sequencer = sequencer_at(LogAddress(url), SystemAmbient())
    try:
        async with asyncio.timeout(WITHIN_S):
            yield sequencer
    finally:
        await sequencer.close()


both = pytest.mark.parametrize("kind", ["nats", "postgres"])


@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_server_that_asks_for_a_certificate_takes_a_node_that_has_one(
    secured: Secured, name: str, kind: str
) -> None:
    async with opened(secured.url(kind, name, own="node.pem", key="node.key")) as sequencer:
        assert await put(sequencer, b"a") == 1


@pytest.mark.parametrize("kind", ["postgres"])  # NATS: test_nats_log.py
@pytest.mark.parametrize(
    ("ca", "own", "said"),
    [
        ("stranger.pem", "node", "certificate verify failed: .*(ca|sslrootcert)=FILE names the authority"),
        ("ca.pem", "", "cert=FILE"),
        ("ca.pem", "foreign", "may not take the certificate of"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_told_with_the_option_that_may_be_missing(
    secured: Secured, name: str, kind: str, ca: str, own: str, said: str
) -> None:
    url = secured.url(kind, name, ca=ca, own=own and f"{own}.pem", key=own and f"{own}.key")
    async with opened(url) as sequencer:
        with pytest.raises(Unreachable, match=said):
            await sequencer.check()


@both
@pytest.mark.parametrize(("ca", "own"), [("stranger.pem", "node"), ("ca.pem", ""), ("ca.pem", "foreign")])
async def test_a_server_that_refuses_leaves_no_connection_behind(
    secured: Secured, name: str, kind: str, ca: str, own: str
) -> None:
    url = secured.url(kind, name, ca=ca, own=own and f"{own}.pem", key=own and f"{own}.key")
    async with opened(url) as sequencer:
        before = _sockets()
        with pytest.raises(Unreachable):  # a SignInRefused is one
            await sequencer.check()
        assert _sockets() <= before


@both
@pytest.mark.parametrize(
    ("ca", "own", "key", "said"),
    [
        ("missing.pem", "node.pem", "node.key", r"(ca|sslrootcert)= can't be used: No such file"),
        ("node.key", "node.pem", "node.key", r"(ca|sslrootcert)= can't be used: "),
        ("ca.pem", "node.pem", "missing.key", r"(cert|sslcert)= or \w+= can't be used: No such file"),
        ("ca.pem", "node.pem", "foreign.key", r"(cert|sslcert)= or \w+= can't be used: "),
        ("ca.pem", "node.pem", "locked.key", r"(key|sslkey)= can't be used: its key is locked by a password"),
    ],
)
async def test_a_file_of_the_address_that_cannot_be_used_is_named_by_its_option(
    secured: Secured, name: str, kind: str, ca: str, own: str, key: str, said: str
) -> None:
    async with opened(secured.url(kind, name, ca=ca, own=own, key=key)) as sequencer:
        with pytest.raises(FileUnusable, match=said):
            await sequencer.check()


@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_node_that_reads_goes_on_once_a_file_that_was_gone_is_back(
    secured: Secured, name: str, kind: str, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    url = secured.url(kind, name, ca=str(authority), own="node.pem", key="node.key")
    async with opened(url) as sequencer, aclosing(sequencer.follow(0)) as following:
        coming = asyncio.ensure_future(anext(following))
        while "can't be used" not in sequencer.trouble:
            assert not coming.done(), coming
            await asyncio.sleep(0.01)
        authority.write_text(secured.authority.pem())
        await put(sequencer, b"a")
        assert (await coming).proposal == b"a"


@pytest.mark.parametrize(
    ("names", "ends", "said"),
    [
        ("elsewhere.example", None, "not valid for '127.0.0.1'"),
        ("127.0.0.1", PAST, "certificate has expired"),
    ],
)
async def test_a_certificate_of_another_host_or_of_the_past_is_refused(
    tmp_path: Path, name: str, names: str, ends: dt.datetime | None, said: str
) -> None:
    authority = Authority()
    authority.server_files(tmp_path, names, ends=ends)
    (tmp_path / "ca.pem").write_text(authority.pem())
    with postgres() as database:
        database.take_only_tls(tmp_path, "")
        url = f"{database.url}?sslrootcert={tmp_path}/ca.pem&name={name}"
        async with opened(url) as sequencer:
            with pytest.raises(Unreachable, match=f"certificate verify failed: .*{said}"):
                await sequencer.check()


async def test_a_credentials_file_of_nats_lets_its_user_in_and_a_foreign_one_does_not(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "foreign").mkdir()
    with_operator(tmp_path / "foreign")
    lines, _ = with_operator(tmp_path)
    with nats_servers(accounts=lines) as servers:
        url = f"nats://127.0.0.1:{servers[0].port}?name={name}&creds="
        async with opened(f"{url}{tmp_path}/user.creds") as sequencer:
            assert await put(sequencer, b"a") >= 1
        async with opened(f"{url}{tmp_path}/foreign/user.creds") as sequencer:
            with pytest.raises(SignInRefused, match="look at the file of creds="):
                await answered(sequencer.check)
        async with opened(f"{url}{tmp_path}/nowhere.creds") as sequencer:
            with pytest.raises(FileUnusable, match="creds= can't be used: No such file"):
                await sequencer.check()


def _sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(str(link.readlink()))
    return {one for one in found if one.startswith("socket:")}


def _lock(key: Path, locked: Path) -> None:
    """The same key with a password."""
    pem = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass"),
    )
    locked.write_bytes(pem)
