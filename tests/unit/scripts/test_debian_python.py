"""What `scripts/debian_python.sh` mounts is unmounted again, also if it fails in the middle."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {
    "id": "echo 0",
    "apt-get": "exit 0",
    "git": "tar -cf - -T /dev/null",
    "mount": 'case "$1" in --rbind) exit 1 ;; esac',
    "umount": 'echo "$@" >>"$LOG"; exit 1',
}


def test_what_was_mounted_is_unmounted_if_a_later_mount_fails(tmp_path: Path) -> None:
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
    env = {"PATH": f"{programs}:/usr/bin:/bin", "LOG": str(log)}
    script = [str(tmp_path / "scripts" / "debian_python.sh"), "x", "3.99", "tests"]
    ended = subprocess.run(script, env=env, capture_output=True, check=False)
    assert ended.returncode == 1
    told = log.read_text("ascii").splitlines()
    assert [one.rpartition("/")[2] for one in told] == ["proc", "dev"]
