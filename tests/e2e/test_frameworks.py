"""Each framework of docs/fastapi.md, as it stands there, in real servers: sockets, requests, events."""

import os
import signal
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.http import client, reader
from tests.support.servers.inside import GUNICORN, HYPERCORN, ROOT, UVICORN, Inside, inside
from tests.support.worlds.wire import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STREAM = "user/42"
SHOP = {
    "settings.py": """
SECRET_KEY = "x" * 50
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
""",
    "urls.py": """
from django.http import JsonResponse
from django.urls import path

async def parcel(request, number):
    from shop_of_the_page import app
    at = await app.publish("user/42", "parcel_seen", {"number": number})
    return JsonResponse({"seq": at.seq})

urlpatterns = [path("parcels/<int:number>", parcel)]
""",
}
"""The files of a project of Django that its `asgi.py` needs."""


def written(folder: Path, framework: str, more: str = "") -> None:
    """The page's application of this framework, as the module `shop_of_the_page`."""
    page = (ROOT / "docs/fastapi.md").read_text()
    lines = page.split(f"<!-- asgi: {framework} -->\n```python\n")[1].split("```")[0]
    (folder / "shop_of_the_page.py").write_text(lines + more)
    if framework == "django":
        (folder / "shop").mkdir()
        for name, text in SHOP.items():
            (folder / "shop" / name).write_text(text)


async def served(server: Inside, method: str, first: int, last: str) -> str:
    """Three events are told on every way; the id of the last one."""
    token = server.token(42)
    async with (
        client(server.url) as host,
        client(f"{server.url}/live", token) as http,
        reader(http, STREAM, last, after=0) as events,
        Client(f"{server.url}/live/ws", token=token) as live,
        live.events(STREAM, after=first - 1) as followed,
    ):
        for number in range(first, first + 3):
            made = await host.request(method, f"/parcels/{number}")
            assert (made.status_code, made.json()) == (200, {"seq": number})
            told = await events.until("message")
            assert (told.seq, told.data["number"]) == (number, number)
            last = str(told.id)
            seen = await anext(aiter(followed))
            assert (seen.seq, seen.data["number"]) == (number, number)
        page = (await http.get(f"/streams/{STREAM}?after=0")).json()
        assert [one["number"] for one in page["events"]] == list(range(1, first + 3))
        assert (await http.get("/streams/user/43")).status_code == 403
        assert (await host.get("/nowhere")).status_code == 404
    return last


@pytest.mark.parametrize("command", [UVICORN, HYPERCORN], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize(
    ("framework", "method"), [("litestar", "POST"), ("quart", "POST"), ("django", "GET")]
)
async def test_sockets_requests_and_events_of_a_framework_go_on_after_a_kill(
    tmp_path: Path, framework: str, method: str, command: tuple[str, ...]
) -> None:
    written(tmp_path, framework)
    with inside("shop_of_the_page:api", tmp_path, command) as server:
        last = await served(server, method, 1, "")
        server.kill()
        server.start()
        await served(server, method, 4, last)
        assert server.stop() in (0, -15)
        assert "service_started_late" not in server.log()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("first", ["/live/readyz", "/parcels/7"])
async def test_in_litestar_without_lifespan_the_first_request_or_call_starts_it(
    tmp_path: Path, first: str
) -> None:
    written(tmp_path, "litestar", "\napi = Litestar([live, parcel])\n")
    with inside("shop_of_the_page:api", tmp_path) as server:
        assert "service_started" not in server.log()
        async with client(server.url) as host:
            method = "POST" if first == "/parcels/7" else "GET"
            assert (await host.request(method, first)).status_code == 200
        assert server.log().count("service_started_late") == 1


async def test_what_quart_does_before_serving_is_done_while_the_service_runs(tmp_path: Path) -> None:
    written(
        tmp_path,
        "quart",
        "\n@shop.before_serving\nasync def begin():\n    await app.publish('user/42', 'begun', {})\n"
        "\n@shop.after_serving\nasync def end():\n    await app.publish('user/42', 'ended', {})\n",
    )
    with inside("shop_of_the_page:api", tmp_path) as server:
        assert server.stop() in (0, -15)
        server.start()
        async with client(f"{server.url}/live", server.token(42)) as http:
            page = (await http.get(f"/streams/{STREAM}?after=0")).json()
        assert [one["type"] for one in page["events"]] == ["begun", "ended", "begun"]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_readers_go_on_after_the_worker_of_gunicorn_was_killed(tmp_path: Path) -> None:
    written(
        tmp_path, "fastapi", "\n\n@api.get('/pid')\ndef pid() -> int:\n    return __import__('os').getpid()\n"
    )
    with inside("shop_of_the_page:api", tmp_path, GUNICORN) as server:
        last = await served(server, "POST", 1, "")
        async with client(server.url) as host:
            killed = (await host.get("/pid")).json()
            os.kill(killed, signal.SIGKILL)
        await until(lambda: is_gone(killed))
        async with client(server.url) as host:  # it waits at the socket until there is another worker
            assert (await host.get("/pid")).json() != killed
        await served(server, "POST", 4, last)
        assert server.stop() in (0, -15)
        assert "in use" not in server.log()
