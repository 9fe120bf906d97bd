"""`Publisher` in workers of gunicorn that are killed while they publish."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.servers.serving import Serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
STREAM = "user/42"
COMMON = """
import os
from huahuo import Publisher

publisher = Publisher(os.environ["SERVICE"], os.environ["HUAHUO_TOKEN"])
publisher.publish("user/42", "before_the_fork", {})     # so that each worker inherits an open connection

def seen(number, key):
    os.write(1, b"%d\\n" % os.getpid())     # in one piece, whichever threads and processes write
    at = publisher.publish("user/42", "parcel_seen", {"number": number}, command_id=key)
    return {"seq": at.seq}
"""
FLASK = """
import flask

application = flask.Flask("shop")

@application.post("/parcels/<int:number>")
def parcel(number):
    return seen(number, flask.request.headers.get("Idempotency-Key"))
"""
DJANGO = """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

def parcel(request, number):
    return JsonResponse(seen(number, request.headers.get("Idempotency-Key")))

urlpatterns = [path("parcels/<int:number>", parcel)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50)
django.setup()
application = get_wsgi_application()
"""
FASTAPI = """
from fastapi import FastAPI, Header

application = FastAPI()

@application.post("/parcels/{number}")
def parcel(number: int, idempotency_key: str | None = Header(None)):
    return seen(number, idempotency_key)
"""


class Gunicorn:
    """Two workers of gunicorn. `entered` gives the process of the next view that publishes."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.port = port

    def entered(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def post(self, number: int, key: str | None = None) -> int:
        """The seq of the event; tried again while a worker is gone."""
        never = threading.Event()
        while not never.wait(0.02):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
            headers = {} if key is None else {"Idempotency-Key": key}
            with contextlib.closing(connection):
                try:
                    connection.request("POST", f"/parcels/{number}", headers=headers)
                    answer = connection.getresponse()
                    said = answer.read()
                except (ConnectionError, http.client.HTTPException):
                    continue
            assert answer.status == 200, said
            return int(json.loads(said)["seq"])
        raise AssertionError


@contextlib.contextmanager
def gunicorn(application: str, kind: str, server: Serving, folder: Path) -> Iterator[Gunicorn]:
    (folder / "shop_of_tests.py").write_text(COMMON + application)
    environ = os.environ | {
        "SERVICE": server.url,
        "HUAHUO_TOKEN": server.token(1, "root", admin=True),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with held_port() as port, (folder / "gunicorn.log").open("w") as log:
        options = ["--preload", "-w", "2", "-k", kind, "--bind", f"127.0.0.1:{port}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "shop_of_tests:application"],
            cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield Gunicorn(process, port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WITHIN_S)
            assert process.stdout is not None
            process.stdout.close()


def numbers(server: Serving) -> list[tuple[int, int]]:
    """Seq and number of each parcel."""
    token = server.token(42, "alice")
    asked = urllib.request.Request(
        f"{server.url}/streams/{STREAM}?after=0", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=WITHIN_S) as answer:
        events: list[dict[str, Any]] = json.load(answer)["events"]
    return [(event["seq"], event["number"]) for event in events if event["type"] == "parcel_seen"]


@pytest.mark.parametrize(
    ("application", "kind"),
    [(FLASK, "sync"), (DJANGO, "gthread"), (FASTAPI, "uvicorn_worker.UvicornWorker")],
    ids=["flask", "django", "fastapi"],
)
def test_a_request_that_is_repeated_because_its_worker_was_killed_takes_effect_once(
    server: Serving, tmp_path: Path, application: str, kind: str
) -> None:
    with gunicorn(application, kind, server, tmp_path) as web, ThreadPoolExecutor(4) as clients:
        asked = [(clients.submit(web.post, number), number) for number in range(10)]
        told = [(task.result(WITHIN_S), number) for task, number in asked]
        workers = {web.entered() for _ in told}
        for number in range(100, 103):
            server.send(signal.SIGSTOP)
            task = clients.submit(web.post, number, f"parcel {number}")
            workers.add(killed := web.entered())
            os.kill(killed, signal.SIGKILL)
            server.send(signal.SIGCONT)
            told.append((task.result(WITHIN_S), number))
            workers.add(web.entered())
        assert len(workers) > 2
    assert numbers(server) == sorted(told)
