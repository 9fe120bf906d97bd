"""A certificate authority for one test run: real certificates, trusted by this run alone."""

import datetime as dt
import ssl
from pathlib import Path

import trustme


class Authority:
    """Signs server certificates; `context()` trusts it and nothing else."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def context(self) -> ssl.SSLContext:
        """A client context that trusts this authority only."""
        return ssl.create_default_context(cadata=self.pem())

    def pem(self) -> str:
        """Its own certificate, for `SSL_CERT_FILE`."""
        return self._authority.cert_pem.bytes().decode()

    def server_files(self, folder: Path, *names: str, ends: dt.datetime | None = None) -> None:
        """Write `server.pem` and `server.key` for a server of these names or addresses, replacing others."""
        issued = self._authority.issue_cert(
            *names, not_before=ends and ends - dt.timedelta(1), not_after=ends
        )
        _write(issued, folder, "server")

    def client_files(self, folder: Path, name: str) -> None:
        """Write `name.pem` and `name.key` for a client."""
        _write(self._authority.issue_cert(f"{name}.example"), folder, name)


def _write(issued: trustme.LeafCert, folder: Path, name: str) -> None:
    issued.private_key_pem.write_to_path(folder / f"{name}.key")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    (folder / f"{name}.pem").write_bytes(chain)
