"""What `scripts/debian_python.sh` mounts is unmounted again, also if it fails or is ended in the middle."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {
    "id": "echo 0",
    "apt-get": "exit 0",
    "git": "tar -cf - -T /dev/null",
    "mount": 'case "$1" in --rbind) eval "$BREAK" ;; esac',
    "umount": 'echo "$@" >>"$LOG"; exit 1',
}


@pytest.mark.parametrize(
    ("breaking", "code"),
    [("exit 1", 1), ("kill -TERM $PPID", 128 + signal.SIGTERM), ("kill -INT $PPID", 128 + signal.SIGINT)],
    ids=["a mount fails", "terminated", "interrupted"],
)
def test_what_was_mounted_is_unmounted_however_it_ends(tmp_path: Path, breaking: str, code: int) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "debian_python.sh", tmp_path / "scripts")
    unpacked = tmp_path / ".tools" / "debian-x" / ".unpacked-3.99"
    (unpacked.parent / "root").mkdir(parents=True)
    unpacked.touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="ascii")
        (programs / name).chmod(0o755)
    log = tmp_path / "log"
    env = {"PATH": f"{programs}:/usr/bin:/bin", "LOG": str(log), "BREAK": breaking}
    script = [str(tmp_path / "scripts" / "debian_python.sh"), "x", "3.99", "tests"]
    ended = subprocess.run(script, env=env, capture_output=True, check=False)
    assert ended.returncode == code
    told = log.read_text("ascii").splitlines()
    assert [one.rpartition("/")[2] for one in told] == ["proc", "dev"]
