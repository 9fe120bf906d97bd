"""A Dovecot for many mailboxes: any name, one password, maildirs, idle sessions in one process."""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PASSWORD = "secret"
_START_S = 30.0
_CONFIG = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {root}/base
state_dir = {root}/state
log_path = {root}/dovecot.log
protocols {{
  imap = yes
}}
listen = 127.0.0.1
ssl = no
auth_allow_cleartext = yes
auth_username_chars =
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
default_client_limit = 15000
first_valid_uid = 1
first_valid_gid = 1
mail_driver = maildir
mail_home = {root}/mail/%{{user}}
mail_path = {root}/mail/%{{user}}
mail_max_userip_connections = 0
imap_hibernate_timeout = 30s
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = {user}
    gid = {group}
  }}
}}
service imap-login {{
  chroot =
  restart_request_count = unlimited
  process_min_avail = 1
  process_limit = 4
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = 2000
  restart_request_count = 1000
  unix_listener imap-master {{
    mode = 0666
  }}
}}
service imap-hibernate {{
  client_limit = 15000
  unix_listener imap-hibernate {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class Dovecot:
    """A running server."""

    host = "127.0.0.1"
    headers = "From: Bob <bob@example.org>\r\n"
    """Of every mail that is delivered."""

    def __init__(self, root: Path, port: int, owner: tuple[int, int]) -> None:
        self.port = port
        self._root = root
        self._owner = owner
        self._count = 0

    def deliver(self, user: str, subject: str, body: str = "hello\r\n") -> None:
        """Put a mail into a user's INBOX, as a delivery agent does. `body`: after the headers of Bob."""
        folder = self._root / "mail" / user
        for name in ("", "tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            os.chown(folder / name, *self._owner)
        self._count += 1
        name = f"{time.time():.6f}.{self._count}.bench"
        path = folder / "tmp" / name
        path.write_bytes(f"Subject: {subject}\r\n{self.headers}\r\n{body}".encode())
        os.chown(path, *self._owner)
        path.rename(folder / "new" / name)


@contextlib.contextmanager
def dovecot() -> Iterator[Dovecot | None]:
    """A server on a free port; None where Dovecot is not installed."""
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        yield None
        return
    is_root = os.geteuid() == 0
    entry = pwd.getpwnam("nobody") if is_root else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="huahuo-bench-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        for folder in ("base", "state", "mail"):
            (root / folder).mkdir()
        group = grp.getgrgid(entry.pw_gid).gr_name
        text = _CONFIG.format(root=root, user=entry.pw_name, group=group, port=port, password=PASSWORD)
        (root / "dovecot.conf").write_text(text, encoding="utf-8")
        for path in (root, *root.rglob("*")):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        process = subprocess.Popen(
            [program, "-F", "-c", root / "dovecot.conf"],
            user=entry.pw_uid if is_root else None,
            group=entry.pw_gid if is_root else None,
            extra_groups=[] if is_root else None,
        )
        try:
            _wait(port)
            yield Dovecot(root, port, (entry.pw_uid, entry.pw_gid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            if link.recv(4) == b"* OK":
                return
        if time.monotonic() > deadline:
            raise TimeoutError("Dovecot did not start")
        time.sleep(0.05)
