"""A real PostgreSQL on a free port of 127.0.0.1, in a folder of its own, stopped at the end.

    with postgres() as server:
        ... connect to server.url
        with server.standby() as standby:   # synchronous from here on
            server.kill()
            standby.promote()

It refuses to run as root: then it runs as the user `nobody`.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port

INSTALL = (
    "PostgreSQL is not installed: `apt-get install postgresql` (its system service need not run), "
    "then run these tests again"
)
PASSWORD = "s3cret-of-the-log"
_CONFIG = """
listen_addresses = '127.0.0.1'
shared_buffers = '16MB'
max_connections = 50
max_wal_senders = 4
wal_level = replica
hot_standby = on
wal_sender_timeout = '5s'
autovacuum = off
logging_collector = off
"""


def program(name: str) -> str | None:
    """A program of PostgreSQL: Debian keeps them outside the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))


class Postgres:
    """A server. `url` is that of its database `huahuo`, with the password."""

    host = "127.0.0.1"

    def __init__(self, root: Path, port: int, process_of: dict[str, Any]) -> None:
        self.root = root
        self.port = port
        self._process_of = process_of
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgres://huahuo:{PASSWORD}@{self.host}:{port}/huahuo"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(program("postgres") or "postgres", "-D", str(self.root / "data"), "-p", str(self.port)),
                    *("-k", str(self.root)),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._process_of,
            )
        until_s = time.monotonic() + WITHIN_S
        while self.run("SELECT 1", check=False, database="postgres") != "1":
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until_s, self.log
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT closes connections and writes a checkpoint, SIGQUIT leaves it to the next start."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WITHIN_S)
            self._process = None

    def kill(self) -> None:
        """`kill -9` of the server with all its processes."""
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(WITHIN_S)
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Freeze it with all its processes (SIGSTOP), or let them go on (SIGCONT)."""
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def run(self, sql: str, *, check: bool = True, database: str = "huahuo") -> str:
        """The output of one statement, run by the superuser over the socket."""
        ran = subprocess.run(
            [
                *(program("psql") or "psql", "-h", str(self.root), "-p", str(self.port), "-U", "postgres"),
                *("-d", database, "-v", "ON_ERROR_STOP=1", "-qAtc", sql),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0 or not check, ran.stderr
        return ran.stdout.strip()

    def promote(self) -> None:
        """Make a standby the primary."""
        self.run("SELECT pg_promote()")

    def take_only_tls(self, files: Path, clients: str = "clientcert=verify-ca") -> None:
        """Serve over TLS only, with `server.pem`, `server.key` and `ca.pem` of `files`.

        `clients`: what is asked of clients besides a password.
        """
        data = self.root / "data"
        for name in ("server.pem", "server.key", "ca.pem"):
            copy = data / name
            copy.write_bytes((files / name).read_bytes())
            copy.chmod(0o600)
            if self._process_of:
                os.chown(copy, self._process_of["user"], self._process_of["group"])
        lines = f"local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256 {clients}\n"
        (data / "pg_hba.conf").write_text(lines, encoding="utf-8")
        for setting in ("ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'"):
            self.run(f"ALTER SYSTEM SET {setting}")
        self.run("ALTER SYSTEM SET ssl_ca_file = 'ca.pem'")
        self.run("SELECT pg_reload_conf()")
        until_s = time.monotonic() + WITHIN_S
        while self.run("SHOW ssl") != "on":
            assert time.monotonic() < until_s, self.log
            time.sleep(0.05)

    @contextlib.contextmanager
    def standby(self) -> Iterator["Postgres"]:
        """A copy that each commit of this server waits for from now on."""
        with _folder(self._process_of) as root, held_port() as port:
            subprocess.run(
                [
                    *(
                        program("pg_basebackup") or "pg_basebackup",
                        "-h",
                        str(self.root),
                        "-p",
                        str(self.port),
                    ),
                    *("-U", "postgres", "-D", str(root / "data"), "-R", "-c", "fast", "--no-sync"),
                    *("-d", "application_name=copy"),
                ],
                check=True,
                capture_output=True,
                **self._process_of,
            )
            copy = Postgres(root, port, self._process_of)
            copy.start()
            self.run("ALTER SYSTEM SET synchronous_standby_names = 'copy'")
            self.run("SELECT pg_reload_conf()")
            try:
                yield copy
            finally:
                copy.stop(signal.SIGQUIT)

    @property
    def log(self) -> str:
        """What the server logged so far."""
        return (self.root / "log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def postgres(extra_config: str = "") -> Iterator[Postgres]:
    """Make a database, start its server, stop it. Skips (fails where CI is set) if it is not installed."""
    initdb = program("initdb")
    if initdb is None:
        if os.environ.get("CI"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    process_of = _unprivileged()
    with _folder(process_of) as root, held_port() as port:
        subprocess.run(
            [
                *(initdb, "-D", str(root / "data"), "-U", "postgres", "--no-sync", "-E", "UTF8"),
                *("--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"),
            ],
            check=True,
            capture_output=True,
            **process_of,
        )
        with (root / "data" / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write(_CONFIG + extra_config)
        server = Postgres(root, port, process_of)
        server.start()
        server.run(f"CREATE ROLE huahuo LOGIN PASSWORD '{PASSWORD}'", database="postgres")
        server.run("CREATE DATABASE huahuo OWNER huahuo", database="postgres")
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def _unprivileged() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": grp.getgrgid(nobody.pw_gid).gr_gid, "extra_groups": []}


@contextlib.contextmanager
def _folder(process_of: dict[str, Any]) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="huahuo-postgres-"))
    if process_of:
        os.chown(root, process_of["user"], process_of["group"])
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children")
    return list(map(int, found.read_text(encoding="ascii").split())) if found.exists() else []
