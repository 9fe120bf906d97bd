"""FastAPI with asyncpg: one INSERT a request, committed before it is answered.

The usual way to accept events durably without a log of one's own.
`BENCH_DSN=postgres://… python -m uvicorn bench.servers.fastapi_insert:app`
"""

import contextlib
import os
from collections.abc import AsyncGenerator

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel

_TABLE = """CREATE TABLE IF NOT EXISTS event (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text UNIQUE, stream text NOT NULL, type text NOT NULL, body text NOT NULL)"""
_INSERT = "INSERT INTO event (id, stream, type, body) VALUES ($1, $2, $3, $4) RETURNING position"


class Event(BaseModel):
    """What a request says."""

    id: str
    stream: str
    type: str
    body: str


@contextlib.asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncGenerator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=8, max_size=32) as pool:
        await pool.execute(_TABLE)
        api.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/publish")
async def publish(event: Event) -> dict[str, int]:
    position = await app.state.pool.fetchval(_INSERT, event.id, event.stream, event.type, event.body)
    return {"position": position}
