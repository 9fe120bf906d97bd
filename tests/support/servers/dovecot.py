r"""A real Dovecot on free ports of 127.0.0.1, in a folder of its own, stopped at the end.

    with dovecot() as server:
        server.add_user("alice@example.com", "secret")
        server.add_mail("alice@example.com", b"Subject: hello\r\n\r\nworld")
        ... connect to server.host, server.port (plain, STARTTLS with tls=True) or server.tls_port

It runs as the user `nobody` if the tests run as root, else as the user that runs them.
"""

import base64
import contextlib
import grp
import imaplib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.imap_client import ImapClient
from tests.support.servers.ports import held_port
from tests.support.servers.tls import Authority

INSTALL = (
    "Dovecot is not installed: `apt-get install dovecot-imapd` (its system service need not run), "
    "then run these tests again"
)
PASSWORD = "secret"
TLS_NAMES = ("localhost", "imap.example.com")

_CONFIG = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {root}/base
state_dir = {root}/state
log_path = {root}/log/dovecot.log
protocols {{
  imap = yes
}}
listen = 127.0.0.1
auth_allow_cleartext = yes
auth_failure_delay = 0
auth_username_chars =
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
first_valid_gid = 1
mail_driver = maildir
mail_home = {root}/home/%{{user}}
mail_path = {root}/mail/%{{user}}
passdb passwd-file {{
  passwd_file_path = {root}/users/%{{user}}
}}
userdb static {{
  fields {{
    uid = {user}
    gid = {group}
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""
_TOKENS_CONFIG = """\
auth_mechanisms = plain login {mechanisms}
oauth2 {{
  oauth2_introspection_mode = local
  username_attribute = email
}}
oauth2_local_validation {{
  dict fs {{
    fs posix {{
      prefix = {root}/keys/
    }}
  }}
}}
"""
"""Access tokens are JWTs that Dovecot verifies by itself."""
_TLS_CONFIG = """\
ssl = yes
ssl_server_cert_file = {root}/server.pem
ssl_server_key_file = {root}/server.key
"""


class Dovecot:
    """A running server. `authority` signed its certificate (None without TLS)."""

    host = "127.0.0.1"

    def __init__(self, root: Path, port: int, tls_port: int, authority: Authority | None) -> None:
        self.root = root
        self.port = port
        self.tls_port = tls_port
        self.authority = authority

    def add_user(self, user: str, password: str = PASSWORD) -> None:
        """Let `user` log in from now on. Any password will do, and any name without `:` and `/`."""
        encoded = base64.b64encode(password.encode()).decode()
        # A file for each user: Dovecot looks at a known file again only after a second.
        (self.root / "users" / user).write_text(f"{user}:{{PLAIN.b64}}{encoded}\n", encoding="utf-8")

    def add_mail(
        self, user: str, *mails: bytes, password: str = PASSWORD, folder: str = "INBOX", days_old: int = 0
    ) -> None:
        """Append mails as they are, in order (their line ends should be CRLF)."""
        date = imaplib.Time2Internaldate(time.time() - 86_400 * days_old) if days_old else ""
        with self.client(user, password) as client:
            for mail in mails:
                # imaplib.append would rewrite line ends; MapCRLF leaves CRLF alone.
                answer, why = client.append(folder, "", date, mail)
                assert answer == "OK", why

    def expunge(self, user: str, *uids: int, password: str = PASSWORD) -> None:
        """Remove mails for good."""
        with self.client(user, password) as client:
            client.select("INBOX")
            client.uid("STORE", ",".join(map(str, uids)), "+FLAGS.SILENT", "(\\Deleted)")
            client.expunge()

    def snapshot(self, user: str) -> dict[str, tuple[int, bytes]]:
        """Every mail file of a user: name (with its flags), size and content, and the UID list."""
        maildir = self.root / "mail" / user
        return {
            str(path.relative_to(maildir)): (path.stat().st_size, path.read_bytes())
            for path in sorted(maildir.rglob("*"))
            if path.is_file() and (path.parent.name in {"cur", "new"} or path.name == "dovecot-uidlist")
        }

    def reset_uidvalidity(self, user: str) -> None:
        """Give the INBOX another UIDVALIDITY, as after a restore from a backup."""
        maildir = self.root / "mail" / user
        uidlist = maildir / "dovecot-uidlist"
        text = uidlist.read_text(encoding="utf-8")
        uidlist.write_text(
            re.sub(r"\bV(\d+)", lambda v: f"V{int(v[1]) + 1000}", text, count=1), encoding="utf-8"
        )
        for index in maildir.glob("dovecot.index*"):
            index.unlink()

    def client(self, user: str, password: str = PASSWORD) -> imaplib.IMAP4:
        """An independent client, logged in."""
        client = ImapClient(self.host, self.port, timeout=WITHIN_S)
        try:
            # Its LOGIN is ASCII only.
            client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
        except imaplib.IMAP4.error:
            client.shutdown()
            raise
        return client

    @property
    def log(self) -> str:
        """What Dovecot logged so far."""
        file = self.root / "log" / "dovecot.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


@contextlib.contextmanager
def dovecot(
    *,
    tls: bool = False,
    extra_config: str = "",
    token_key: bytes = b"",
    mechanisms: str = "xoauth2 oauthbearer",
) -> Iterator[Dovecot]:
    """Start a server, wait until it greets, stop it. Skips (fails where CI is set) if it is not installed.

    With `token_key` it also takes access tokens: JWTs signed by this key (HS256), with the address as
    `email`.
    """
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    uid, gid = (
        (pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
        if os.geteuid() == 0
        else (os.geteuid(), os.getegid())
    )
    # Not below pytest's folder: others cannot enter it, and unix sockets want short paths.
    with (
        tempfile.TemporaryDirectory(prefix="huahuo-dovecot-", ignore_cleanup_errors=True) as name,
        held_port() as port,
        held_port() as tls_port,
    ):
        root = Path(name)
        root.chmod(0o755)
        authority = Authority() if tls else None
        if authority is not None:
            authority.server_files(root, *TLS_NAMES)
        for folder in ("base", "state", "home", "mail", "log", "users"):
            (root / folder).mkdir()
        config = _CONFIG.format(
            root=root,
            user=pwd.getpwuid(uid).pw_name,
            group=grp.getgrgid(gid).gr_name,
            port=port,
            tls_port=tls_port if tls else 0,
        )
        config += _TLS_CONFIG.format(root=root) if tls else "ssl = no\n"
        if token_key:
            keys = root / "keys" / "default" / "HS256"
            keys.mkdir(parents=True)
            (keys / "default").write_text(base64.b64encode(token_key).decode(), encoding="ascii")
            extra_config += _TOKENS_CONFIG.format(root=root, mechanisms=mechanisms)
        (root / "dovecot.conf").write_text(config + extra_config, encoding="utf-8")
        if os.geteuid() == 0:
            for path in (root, *root.rglob("*")):
                os.chown(path, uid, gid)
        process = subprocess.Popen(
            [program, "-F", "-c", root / "dovecot.conf"],
            user=uid if os.geteuid() == 0 else None,
            group=gid if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        server = Dovecot(root, port, tls_port, authority)
        try:
            _wait_for_greeting(process, server)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _wait_for_greeting(process: subprocess.Popen[bytes], server: Dovecot) -> None:
    """Dovecot shows only on its socket that it is ready."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            with socket.create_connection((server.host, server.port), timeout=5) as connection:
                if connection.recv(4) == b"* OK":
                    return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            output = process.communicate(timeout=5)[0] if process.poll() is not None else b""
            pytest.fail(f"Dovecot did not start: {output.decode(errors='replace')}\n{server.log}")
        time.sleep(0.02)
