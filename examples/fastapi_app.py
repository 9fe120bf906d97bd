"""A FastAPI application whose progress bar survives a reload of the page and a `kill -9` of the process.

uvicorn fastapi_app:api --port 8000                 # then open http://127.0.0.1:8000
"""

import asyncio

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import HTMLResponse

from huahuo import Huahuo

app = Huahuo(data="bar-data")
api = FastAPI(lifespan=app.lifespan)
api.mount("/live", app.asgi)


@api.post("/import")
async def begin(work: BackgroundTasks) -> None:
    work.add_task(import_files)


async def import_files() -> None:
    for percent in range(0, 101, 5):
        await app.publish("user/42", "import_progress", {"percent": percent})
        await asyncio.sleep(0.2)


@api.get("/token")
def token() -> str:
    return app.token(42)  # here your own session says who asks


@api.get("/", response_class=HTMLResponse)
def page() -> str:
    return PAGE


PAGE = """<!doctype html><progress max="100" value="0"></progress> <button>import</button><script>
const bar = document.querySelector("progress");
document.querySelector("button").onclick = () => fetch("/import", {method: "POST"});
let last = "-1";                                         // the newest event, then each that follows
async function listen() {
  const token = await (await fetch("/token")).json();
  const signed = await fetch("/live/ticket", {method: "POST", headers: {Authorization: `Bearer ${token}`}});
  const {ticket} = await signed.json();
  const events = new EventSource(`/live/streams/user/42?after=${last}&ticket=${ticket}`);
  events.onmessage = (event) => { last = event.lastEventId; bar.value = JSON.parse(event.data).percent; };
  events.onerror = () => { events.close(); setTimeout(again, 1000); };   // a ticket is good once
}
const again = () => listen().catch(() => setTimeout(again, 1000));
again();
</script>"""
