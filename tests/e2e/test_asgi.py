"""The service inside real ASGI servers and frameworks, as a process that is stopped and killed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.http import client, reader
from tests.support.servers.inside import GUNICORN, HYPERCORN, ROOT, UVICORN, Inside, inside
from tests.support.worlds.services import run
from tests.support.worlds.wire import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


STREAM = "user/42"


MOUNTED = """
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from huahuo import Huahuo

app = Huahuo(data="data")
api = FastAPI(lifespan=app.lifespan)
api.mount("/live", app.asgi)

@api.post("/hello/{word}")
async def hello(word: str):
    at = await app.publish("user/42", "hello", {"text": word})
    return {"seq": at.seq}

starlette = Starlette(routes=[Mount("/a/b", app=app.asgi)], lifespan=app.lifespan)
bare = FastAPI()
bare.mount("/live", app.asgi)
bare.post("/hello/{word}")(hello)

async def other(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the other one"})

around = app.asgi(other, path="/live")
alone = app.asgi
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_of_tests.py").write_text(MOUNTED)
    return tmp_path


@pytest.mark.parametrize("command", [UVICORN, HYPERCORN], ids=["uvicorn", "hypercorn"])
async def test_an_application_of_fastapi_has_sockets_and_streams_on_its_own_port(
    folder: Path, command: tuple[str, ...]
) -> None:
    with inside("site_of_tests:api", folder, command) as server:
        token = server.token(42)
        async with (
            client(server.url) as plain,
            client(f"{server.url}/live", token) as http,
            Client(f"{server.url}/live/ws", token=token) as live,
            live.events(STREAM, 0) as followed,
            reader(http, STREAM) as events,
        ):
            await events.until("live")
            assert (await plain.post("/hello/a")).json() == {"seq": 1}
            assert await events.texts(1) == ["a"]
            event = await anext(aiter(followed))
            assert (event.data["text"], event.seq) == ("a", 1)
            page = await http.get(f"/streams/{STREAM}")
            assert [one["text"] for one in page.json()["events"]] == ["a"]
            assert await asyncio.to_thread(server.stop) in (0, -15)
            assert (await events.until("goaway")).data["reason"] == "the server restarts"
        assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("application", "path"),
    [("starlette", "/a/b"), ("around", "/live"), ("alone", "")],
)
async def test_it_can_be_mounted_anywhere(folder: Path, application: str, path: str) -> None:
    with inside(f"site_of_tests:{application}", folder) as server:
        async with client(server.url + path, server.token(1, admin=True)) as http:
            assert (await http.get("/readyz")).text == "ready\n"
            event = {"stream": STREAM, "type": "hello", "fields": {"text": "a"}}
            assert (await http.post("/publish", json=event)).json()["at"]["seq"] == 1
        if application == "around":
            async with client(server.url) as plain:
                assert (await plain.get("/livelier")).text == "the other one"
                assert (await plain.get("/%ff")).text == "the other one", "what it asks of a path is its own"
                assert (await plain.get("/live/%ff")).status_code == 400
        assert server.stop() in (0, -15)
        assert "service_started_late" not in server.log()


@pytest.mark.parametrize("first", ["/live/readyz", "/hello/a"])
async def test_without_lifespan_the_first_request_or_call_starts_it_and_the_log_says_so(
    folder: Path, first: str
) -> None:
    with inside("site_of_tests:bare", folder) as server:
        assert "service_started" not in server.log()
        async with client(server.url) as plain:
            answers = await asyncio.gather(
                *(plain.request("POST" if "hello" in first else "GET", first) for _ in range(5))
            )
            assert [answer.status_code for answer in answers] == [200] * 5
        assert server.log().count("service_started_late") == 1
        assert "lifespan=app.lifespan" in server.log()


def test_a_second_process_on_one_directory_is_refused_and_told_what_to_do(folder: Path) -> None:
    with inside("site_of_tests:api", folder) as first, inside("site_of_tests:bare", folder) as second:

        async def main() -> None:
            async with client(second.url) as plain:
                refused = await plain.get("/live/readyz")
                assert refused.status_code == 503

        run(main())
        assert "in use by process" in second.log()
        assert "uvicorn --workers 1" in second.log()
        assert "huahuo.Publisher" in second.log()
        assert first.stop() in (0, -15)


async def test_a_reader_of_events_loses_and_repeats_nothing_over_kills(folder: Path) -> None:
    with inside("site_of_tests:api", folder) as server:
        got: list[int] = []
        last = ""
        for life in range(2):
            async with (
                client(server.url) as plain,
                client(f"{server.url}/live", server.token(42)) as http,
                reader(http, STREAM, last, after=0) as events,
            ):
                for number in range(20):
                    assert (await plain.post(f"/hello/{life}-{number}")).status_code == 200
                for _ in range(15):  # five are on their way when the process dies
                    event = await events.until("message")
                    got.append(event.seq)
                    assert event.id is not None
                    last = event.id
                server.kill()
            server.start()
        async with (
            client(f"{server.url}/live", server.token(42)) as http,
            reader(http, STREAM, last) as events,
        ):
            while got[-1] < 40:
                got.append((await events.until("message")).seq)
        assert got == list(range(1, 41))


@pytest.mark.parametrize(("page", "name"), [("docs/fastapi.md", "fastapi"), ("README.md", "readme")])
async def test_the_application_of_a_page_runs_as_it_stands_there(
    tmp_path: Path, page: str, name: str
) -> None:
    text = (ROOT / page).read_text()
    lines = text.split(f"<!-- asgi: {name} -->\n```python\n")[1].split("```")[0]
    (tmp_path / "shop_of_the_page.py").write_text(lines)
    with inside("shop_of_the_page:api", tmp_path) as server:
        async with client(server.url, server.token(42)) as http:
            assert (await http.post("/parcels/7")).json() == {"seq": 1}
            found = await http.get(f"/live/streams/{STREAM}?after=-1")
            assert [event["number"] for event in found.json()["events"]] == [7]


async def test_the_example_keeps_its_bar_over_a_kill(tmp_path: Path) -> None:
    with inside("examples.fastapi_app:api", tmp_path) as server:
        async with client(server.url) as plain:
            assert "EventSource" in (await plain.get("/")).text
            assert (await plain.post("/import")).status_code == 200
            token = (await plain.get("/token")).json()
        async with client(f"{server.url}/live", token) as http, reader(http, STREAM, after=0) as events:
            await events.until("message", percent=20)
        server.kill()
        server.start()
        async with client(f"{server.url}/live", token) as http:
            ticket = (await http.post("/ticket")).json()["ticket"]
        async with (
            client(f"{server.url}/live") as page,
            reader(page, STREAM, after=-1, ticket=ticket) as events,
        ):
            assert (await events.until("message")).data["percent"] >= 20


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
