"""The fleet of `examples/fleet`, served by `huahuo serve --app fleet:app`: all its sensors, in a browser."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from huahuo import Every
from huahuo.testing import given
from tests.support.drivers.browser import Chromium, Tab, pages, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.serving import serving

FLEET = Path(__file__).resolve().parents[2] / "examples" / "fleet"
SENSORS = 10_000 if WHOLE else 2_000
READINGS = "document.querySelector('#readings').value"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("fleet_example", FLEET / "fleet.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["fleet_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_alarm_begins_and_ends_with_one_event_each(fleet: ModuleType) -> None:
    warm, cold = 150_000, 450_000  # milliseconds at which the wave is at sensor 10,000, and far from it
    sensor = given(fleet.sensor, [fleet.Installed(fleet.SENSORS)], id="s")
    for now_ms, celsius, change in (
        (cold, 10.0, ()),
        (warm, 30.0, (True,)),
        (warm, 30.0, ()),
        (cold, 10.0, (False,)),
    ):
        changes = [fleet.to("group/ops", fleet.AlarmChanged("s", alarm)) for alarm in change]
        sensor.when(fleet.Measure(), now_ms=now_ms).then([fleet.Read(celsius), *changes])


def test_a_sensor_is_installed_once_and_with_its_timer(fleet: ModuleType) -> None:
    assert fleet.Every is Every
    new = given(fleet.sensor).when(fleet.Install(7)).then([fleet.Installed(7)], effects=["measure"])
    new.when(fleet.Install(7)).then([])


async def number(tab: Tab, name: str, at_least: int) -> None:
    """Wait until the page shows at least this many."""
    await tab.until(f"parseInt(document.querySelector('#{name}').value) >= {at_least}")


async def test_all_its_sensors_raise_alarms_and_go_on_after_a_kill(
    chromium: Chromium, tmp_path: Path
) -> None:
    text = (FLEET / "fleet.py").read_text(encoding="utf-8")
    for known, wanted in (
        ("READ_EVERY_S = 60", "READ_EVERY_S = 10"),
        ("SENSORS = 10_000", f"SENSORS = {SENSORS}"),
    ):
        assert known in text
        text = text.replace(known, wanted)
    (tmp_path / "fleet.py").write_text(text, encoding="utf-8")
    folder = tmp_path / "pages"
    folder.mkdir()
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="fleet:app", folder=tmp_path) as server:
            page = (FLEET / "fleet.html").read_text(encoding="utf-8")
            page = page.replace("http://127.0.0.1:8765", server.url)
            (folder / "fleet.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                token = server.token(1, "operator", groups=("ops",))
                tab = await browser.open(f"{site}/fleet.html#{token}")
                await number(tab, "sensors", SENSORS)
                await number(tab, "alarms", 1)
                await tab.click("#list li")
                await tab.until(f"{READINGS}.split(' ').length > 1")
                seen = await tab.run(f"return {READINGS}")
                server.kill()
                server.start()
                await tab.until(f"{READINGS} !== '{seen}'")
                await tab.reload()
                await number(tab, "sensors", SENSORS)
                await number(tab, "alarms", 1)
                assert await tab.run("return document.querySelector('#error').textContent") == ""
