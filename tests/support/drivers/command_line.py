"""The program `huahuo`, run as a user runs it."""

import os
import subprocess
import sys

from tests.support.patience import WITHIN_S
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY

KEYS = {"HUAHUO_JWT_SECRET": JWT_SECRET, "HUAHUO_MASTER_KEY": MASTER_KEY}


def huahuo(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "huahuo", *words],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        env=os.environ | environ,
        check=False,
    )
