"""Nodes whose code does not know the work say so in `/readyz` and `/metrics` while no other node does it."""

from msgspec.structs import replace

from huahuo.app.cluster_service import say_what_is_undone
from huahuo.cluster import members
from huahuo.cluster.duty import Duty
from huahuo.cluster.members import Member
from huahuo.errors import ConfigError
from huahuo.eventstore.model import Append
from tests.support.drivers.http import client
from tests.support.worlds.wire import world


async def test_work_that_no_node_does_is_told_to_who_watches_the_node() -> None:
    async with world() as w, client(f"http://127.0.0.1:{w.port}") as http:

        def said(beat: int) -> Member:
            now_ms = w.ambient.now_ms()
            return Member(url="", build="1", keys="k", beat=beat, at_ms=now_ms, applied=0)

        async def work() -> None:
            raise ConfigError("the effect order/ship is not known")

        async def rest() -> None:
            pass

        died = replace(said(1), divides=members.DIVISION)  # a moment ago
        await w.log.append(Append(ts_ms=1, rows=(members.put_member("died", died),)))
        duty = Duty(log=w.log, ambient=w.ambient, node="here", work=work, rest=rest, tell=said)
        w.site.told = lambda: "disk low"
        say_what_is_undone(duty, w.metrics, w.site)
        assert (await http.get("/readyz")).text == "ready; disk low\n"
        assert b"huahuo_work_undone 0.0\n" in w.metrics_text
        await duty.start()
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert answer.text == (
            "ready; no node does effects, timers and the rest of the work:"
            " the effect order/ship is not known; disk low\n"
        )
        assert b"huahuo_work_undone 1.0\n" in w.metrics_text
        await duty.stop()
