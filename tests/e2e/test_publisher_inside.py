"""`Publisher` where teams have it: in views of Flask and Django, and in forked workers of Celery."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import flask
import pytest

from huahuo import Publisher
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
STREAM = "user/42"

DJANGO = """
import os
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from huahuo import Publisher

publisher = Publisher(os.environ["SERVICE"], os.environ["HUAHUO_TOKEN"])

def parcel(request, number):
    at = publisher.publish("user/42", "parcel_seen", {"number": number})
    return JsonResponse({"seq": at.seq})

urlpatterns = [path("parcels/<int:number>", parcel)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50)
django.setup()
application = get_wsgi_application()
"""

CELERY = """
import os, pathlib, time
from celery import Celery
from huahuo import Publisher

publisher = Publisher(os.environ["SERVICE"], os.environ["HUAHUO_TOKEN"])
publisher.publish("user/42", "before_the_fork")     # so that each worker inherits an open connection

box = os.environ["BOX"]
folders = {"data_folder_in": box, "data_folder_out": box, "control_folder": box}
app = Celery("tasks_of_tests", broker_url="filesystem://", broker_transport_options=folders)
app.conf.task_ignore_result = True

pids = pathlib.Path(box).with_name("pids")

@app.task
def work(number):
    (pids / str(os.getpid())).touch()
    while len(list(pids.iterdir())) < 2:                 # one process may begin long before the others
        time.sleep(0.01)
    publisher.publish("user/42", "worked", {"number": number, "pid": os.getpid()})
"""


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=WITHIN_S) as answer:
        text: str = answer.read().decode()
    return text


@contextlib.contextmanager
def wsgi(application: Any) -> Iterator[str]:
    """Serve a WSGI application in a thread of this process."""
    with make_server("127.0.0.1", 0, application) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def test_a_view_of_flask_publishes(server: Serving) -> None:
    publisher = Publisher(server.url, server.token(1, "root", admin=True))
    app = flask.Flask("shop")

    @app.get("/parcels/<int:number>")
    def parcel(number: int) -> dict[str, int]:
        return {"seq": publisher.publish(STREAM, "parcel_seen", {"number": number}).seq}

    with wsgi(app) as url:
        assert get(f"{url}/parcels/7") == '{"seq":1}\n'
        server.kill()
        server.start()
        assert get(f"{url}/parcels/8") == '{"seq":2}\n'


def test_a_view_of_django_publishes(server: Serving, tmp_path: Path) -> None:
    (tmp_path / "django_of_tests.py").write_text(DJANGO)
    serve = (
        "import sys; from wsgiref.simple_server import make_server; from django_of_tests import application\n"
        "with make_server('127.0.0.1', 0, application) as listening:\n"
        "    print(listening.server_port, flush=True); listening.serve_forever()"
    )
    with child([sys.executable, "-c", serve], server, tmp_path) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert get(f"http://127.0.0.1:{port}/parcels/7") == '{"seq": 1}'
        assert get(f"http://127.0.0.1:{port}/parcels/8") == '{"seq": 2}'


def test_forked_workers_of_celery_publish_on_connections_of_their_own(
    server: Serving, tmp_path: Path
) -> None:
    (tmp_path / "tasks_of_tests.py").write_text(CELERY)
    for name in ("box", "pids"):
        (tmp_path / name).mkdir()
    send = "from tasks_of_tests import work\nfor number in range(40): work.delay(number)"
    env = environ(server, tmp_path)
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=env, check=True, timeout=WITHIN_S)
    celery = [sys.executable, "-m", "celery", "-A", "tasks_of_tests"]
    worker = [*celery, "worker", "-P", "prefork", "-c", "3", "-l", "warning"]
    with child(worker, server, tmp_path):
        found = events(server, 2 + 40)  # each process that imports the tasks publishes one
    done = [event for event in found if event["type"] == "worked"]
    assert sorted(event["number"] for event in done) == list(range(40))
    assert len({event["pid"] for event in done}) > 1


def events(server: Serving, count: int) -> list[dict[str, Any]]:
    """The first `count` events, as soon as they are there."""
    token = server.token(1, "root", admin=True)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        url = f"{server.url}/streams/{STREAM}?after={len(found)}&wait={WITHIN_S:.0f}"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=2 * WITHIN_S) as answer:
            page = json.load(answer)["events"]
        assert page, f"no more than {len(found)} events came"
        found += page
    return found


def environ(server: Serving, folder: Path) -> dict[str, str]:
    return os.environ | {
        "SERVICE": server.url,
        "HUAHUO_TOKEN": server.token(1, "root", admin=True),
        "BOX": str(folder / "box"),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextlib.contextmanager
def child(command: list[str], server: Serving, folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (folder / "child.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ(server, folder), stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
