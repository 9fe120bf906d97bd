"""A certificate authority for one test run: real certificates, trusted by this run alone."""

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

    def server_files(self, folder: Path, *names: str) -> None:
        """Write `server.pem` and `server.key` for a server of these names or addresses."""
        issued = self._authority.issue_cert(*names)
        issued.private_key_pem.write_to_path(folder / "server.key")
        for pem in issued.cert_chain_pems:
            pem.write_to_path(folder / "server.pem", append=True)
