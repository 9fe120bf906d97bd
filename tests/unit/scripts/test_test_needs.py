"""`make test` offers to install what is missing; it installs nothing without a yes, and asks nobody in CI."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.patience import WITHIN_S

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "test_needs.sh"
TOOLS = ("dovecot", "chromium", "strace", "nginx", "caddy", "promtool", "npm", "cc", "initdb")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs: the shell's own, and an apt-get that notes what it is asked for."""
    for name in ("sh", "id", "tee", "chmod", "rm"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    program(tmp_path / "apt-get", f'echo "$@" >> {tmp_path}/asked')
    program(tmp_path / "sudo", '"$@"')
    return tmp_path


def program(path: Path, line: str = "") -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def run(machine: Path, answer: str = "", *words: str, **environ: str) -> str:
    """What the script says, on a terminal where `answer` is typed."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [SCRIPT, *words],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=True,
            timeout=WITHIN_S,
            env={"PATH": str(machine), "SBIN": "", "POLICY": str(machine / "policy")} | environ,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.stderr


def installed(machine: Path) -> str:
    asked = machine / "asked"
    return asked.read_text() if asked.exists() else ""


def test_where_all_is_there_it_says_nothing(machine: Path) -> None:
    for name in TOOLS:
        program(machine / name)
    assert run(machine, "y") == ""
    assert installed(machine) == ""


def test_it_shows_what_it_would_install_and_a_yes_installs_it(machine: Path) -> None:
    for name in ("npm", "cc"):
        program(machine / name)
    said = run(machine, "y")
    packages = "dovecot-imapd chromium strace nginx-light caddy prometheus postgresql\n"
    assert f"apt-get install --no-install-recommends {packages}" in said
    assert f"install -qy --no-install-recommends {packages}" in installed(machine)
    assert not (machine / "policy").exists(), "what kept the package from starting a server is gone again"


@pytest.mark.parametrize("answer", ["", "n", "what?"])
def test_any_other_answer_installs_nothing(machine: Path, answer: str) -> None:
    assert "install now? [y/N]" in run(machine, answer)
    assert installed(machine) == ""


def test_in_ci_nobody_is_asked(machine: Path) -> None:
    assert run(machine, "y", CI="true") == ""
    assert installed(machine) == ""
