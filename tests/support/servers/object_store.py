"""A local S3 server: s3rver, from npm."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port

PACKAGE = Path(__file__).resolve().parents[2] / "e2e" / "object_store" / "package.json"
BUCKET = "backups"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_REGION": "us-east-1",
}
"""What s3rver accepts."""


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """Run the server with one bucket; yields the environment with which clients reach it."""
    assert shutil.which("npm"), "the S3 server needs Node with npm on the PATH"
    shutil.copy(PACKAGE, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=folder, check=True, timeout=10 * WITHIN_S)
    with held_port() as port:
        process = subprocess.Popen(
            [
                *("node", "node_modules/s3rver/bin/s3rver.js", "--directory", str(folder / "data")),
                *("--address", "127.0.0.1", "--port", str(port), "--configure-bucket", BUCKET),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            while "listening on" not in (line := process.stdout.readline()):
                assert line, "s3rver ended before it listened"
            yield ACCESS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        finally:
            process.terminate()
            process.wait(WITHIN_S)
            if process.stdout is not None:
                process.stdout.close()
