"""A service that starts where another one was killed listens first, and proves the newest events then."""

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

from huahuo import Huahuo
from huahuo.eventstore.sqlite.tail_check import TAIL_EVENTS
from tests.support.patience import WITHIN_S
from tests.support.worlds.sqlite_logs import as_killed, sql

USER = "user/1"


async def killed(directory: Path) -> Path:
    """The directory of a service that was killed behind an event of `user/1` and a thousand others."""
    app = Huahuo(data=directory / "first", port=0, log_level="error")
    await app.start()
    await app.publish(USER, "tick", {"n": 1})
    await app.publish_many([("group/ops", "tick", {"n": n}) for n in range(TAIL_EVENTS)])
    left = as_killed(directory / "first", directory / "left")
    for name in ("master.key", "jwt.secret"):
        (left / name).write_bytes((directory / "first" / name).read_bytes())
    await app.stop()
    return left


async def proven() -> None:
    """Wait for the end of the proof that a start began."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "prove the newest events"]
    async with asyncio.timeout(WITHIN_S):
        await asyncio.wait(tasks)


async def readyz(app: Huahuo) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{app.url}/readyz", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.get_running_loop().run_in_executor(None, ask)


async def test_a_start_after_a_kill_indexes_all_and_is_ready(tmp_path: Path) -> None:
    left = await killed(tmp_path)
    app = Huahuo(data=left, port=0, log_level="error")
    await app.start()
    await proven()
    assert (await readyz(app))[0] == 200
    await app.publish(USER, "tick", {"n": 2})
    await app.stop()
    assert sql(left, "SELECT count(*) FROM seq_index") == sql(left, "SELECT count(*) FROM event")


async def test_damage_found_after_the_start_makes_the_service_unready(tmp_path: Path) -> None:
    left = await killed(tmp_path)
    sql(
        left,
        f"UPDATE event SET body = x'7b7d' WHERE stream = (SELECT id FROM stream WHERE name = '{USER}')",
    )
    app = Huahuo(data=left, port=0, log_level="error")
    await app.start()
    await proven()
    status, said = await readyz(app)
    assert (status, USER in said) == (503, True)
    await app.publish("group/ops", "tick", {"n": 2})
    await app.stop()
