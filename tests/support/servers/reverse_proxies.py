"""The real nginx and Caddy in front of a service, with the configuration that `deploy/` ships.

Only what belongs to one machine is replaced: the addresses and the certificate.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.servers.tls import Authority

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
NAMES = ("nginx", "caddy")
STOPPING = {"nginx": signal.SIGTERM, "caddy": signal.SIGQUIT}
"""What ends each at once; the other signals wait until the clients of WebSockets have gone."""


@contextlib.contextmanager
def reverse_proxy(
    name: str, upstream_port: int, folder: Path, authority: Authority, mount: str = ""
) -> Iterator[str]:
    """Run nginx or Caddy before a service on 127.0.0.1; the address for clients, `https://127.0.0.1:PORT`.

    `mount`: where it is mounted in another application.
    """
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if binary is None:
        pytest.skip(f"{name} is not installed: apt-get install nginx-light caddy")
    authority.server_files(folder, "127.0.0.1")
    with held_port() as port:
        command = (_nginx if name == "nginx" else _caddy)(folder, upstream_port, port, mount)
        with _running([binary, *command], folder, port, STOPPING[name]):
            yield f"https://127.0.0.1:{port}"


def _nginx(folder: Path, upstream_port: int, port: int, mount: str) -> Sequence[str]:
    shipped = (DEPLOY / "nginx" / "huahuo.conf").read_text(encoding="utf-8")
    site = _replaced(
        shipped,
        {
            "127.0.0.1:8765": f"127.0.0.1:{upstream_port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "location = /metrics": f"location = {mount}/metrics",
            "/etc/ssl/live.example.org.pem": f"{folder}/server.pem",
            "/etc/ssl/live.example.org.key": f"{folder}/server.key",
        },
    )
    return _nginx_with(site, folder)


def _nginx_with(site: str, folder: Path) -> Sequence[str]:
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;"
        f"events {{}} http {{ access_log off; {folders}\n{site}\n}}",
        encoding="utf-8",
    )
    return ["-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


@contextlib.contextmanager
def nginx_below(prefix: str, upstream_port: int, folder: Path) -> Iterator[str]:
    """Nginx as most people write it: it takes `prefix` away, and says nothing of it. Its address."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with held_port() as port:
        site = (
            f"server {{ listen 127.0.0.1:{port}; location {prefix} {{ proxy_pass http://127.0.0.1:{upstream_port}/;"
            " proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
            " proxy_set_header Connection upgrade; proxy_set_header Host $http_host; } }"
        )
        command = [binary, *_nginx_with(site, folder)]
        with _running(command, folder, port, STOPPING["nginx"]):
            yield f"http://127.0.0.1:{port}"


def _caddy(folder: Path, upstream_port: int, port: int, mount: str) -> Sequence[str]:
    shipped = (DEPLOY / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    site = _replaced(
        shipped,
        {
            "{$HUAHUO_SITE} {": f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {folder}/server.pem {folder}/server.key",
            "{$HUAHUO_UPSTREAM}": f"127.0.0.1:{upstream_port}",
            "{$HUAHUO_MOUNT}": mount,
        },
    )
    alone = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(alone + site, encoding="utf-8")
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _replaced(text: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        assert old in text, f"deploy/ has no {old!r} any more"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, port: int, stopping: signal.Signals) -> Iterator[None]:
    """The proxy as a child, from when it listens; stopped with the test."""
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | home)
    try:
        _wait_for(port, process, folder)
        yield
    finally:
        process.send_signal(stopping)
        process.wait(WITHIN_S)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    ends_s = time.monotonic() + WITHIN_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > ends_s:
            raise AssertionError((folder / "proxy.log").read_text(encoding="utf-8", errors="replace"))
        time.sleep(0.02)  # neither proxy says on its output when it listens


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
