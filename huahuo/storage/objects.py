"""Backups in an object store: `s3://BUCKET/PREFIX`, one folder for each backup, named by its time.

PREFIX/2026-11-26T020304Z/log.db        what `huahuo backup` writes into a directory, uploaded in parts
PREFIX/2026-11-26T020304Z/backup.json   uploaded last: a folder without it is no backup

Access comes from the environment by the names that S3 tools share: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, and AWS_ENDPOINT_URL for a store that is not Amazon's.
"""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.care.backup import MANIFEST

__all__ = ["SCHEME", "Objects"]

SCHEME = "s3://"
_PART_BYTES = 16 << 20
_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_MISSING = "backups to s3:// need one more package: pip install 'huahuo[s3]'"


class Objects:
    """The backups below one address."""

    def __init__(self, url: str) -> None:
        """`url`: `s3://BUCKET/PREFIX`; the prefix may be empty.

        Raises:
            ConfigError: the address names no bucket, or the package for it is not installed.
        """
        parts = urlsplit(url)
        if not url.startswith(SCHEME) or not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"not an address of backups, such as s3://bucket/huahuo: {url!r}")
        try:
            from obstore.store import S3Store
        except ImportError:
            raise ConfigError(_MISSING) from None
        self._url = url.rstrip("/")
        self._prefix = parts.path.strip("/")
        with self._asking():
            self._store = S3Store(
                parts.netloc,
                client_options=_client_options(),
                retry_config=_RETRIES,
            )

    def names(self) -> list[str]:
        """The complete backups, oldest first.

        Raises:
            HuahuoError: the store does not answer, or refuses.
        """
        import obstore

        found = []
        with self._asking():
            for page in obstore.list(self._store, self._prefix or None):
                for entry in page:
                    folder, _, file = entry["path"].rpartition("/")
                    if file == MANIFEST and folder.rpartition("/")[0] == self._prefix:
                        found.append(folder.rpartition("/")[2])
        return sorted(found)

    def put(self, folder: Path, name: str) -> str:
        """Upload a backup; returns its address. The manifest goes last, so that a broken upload is no backup.

        Raises:
            HuahuoError: as `names`.
        """
        import obstore

        files = sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST)
        with self._asking():
            for file in files:
                obstore.put(self._store, self._key(name, file.name), file, chunk_size=_PART_BYTES)
        return f"{self._url}/{name}"

    def get(self, folder: Path) -> None:
        """Download the backup that the address names, or the newest one below it, into a directory.

        Raises:
            ConfigError: there is no backup. HuahuoError: as `names`.
        """
        import obstore

        names = self.names()
        named = "" if names else self._prefix.rpartition("/")[2]
        if not names:
            self._prefix = self._prefix.rpartition("/")[0]
            names = [name for name in self.names() if name == named]
        if not names:
            raise ConfigError(
                f"there is no backup at {self._url}: `huahuo backup s3://BUCKET/PREFIX` makes one"
            )
        with self._asking():
            for page in obstore.list(self._store, self._key(names[-1])):
                for entry in page:
                    self._download(entry["path"], folder / entry["path"].rpartition("/")[2])

    def keep(self, count: int) -> list[str]:
        """Delete all but the newest `count` backups; returns the names of the deleted.

        Raises:
            HuahuoError: as `names`.
        """
        import obstore

        old = self.names()[:-count]
        for name in old:
            with self._asking():
                # The manifest first: what is left after a broken deletion is no backup.
                obstore.delete(self._store, self._key(name, MANIFEST))
                rest = [
                    entry["path"] for page in obstore.list(self._store, self._key(name)) for entry in page
                ]
                obstore.delete(self._store, rest)
        return old

    def _download(self, key: str, target: Path) -> None:
        import obstore

        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in obstore.get(self._store, key).stream(min_chunk_size=_PART_BYTES):
                file.write(part)

    def _key(self, *names: str) -> str:
        return "/".join((self._prefix, *names) if self._prefix else names)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say what the store said, in one line and without secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError) as error:  # the latter: no such bucket or object
            raise HuahuoError(f"{self._url}: {_said(error)}") from None


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _client_options() -> Any:
    """Plain http for a store on this machine only."""
    host = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")).hostname
    return {"allow_http": host is not None and _is_loopback(host)}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
