"""Proposals that are too large for one NATS message: they lie in the log's object store, by their digest."""

import asyncio
import contextlib
import datetime as dt
import hashlib

import nats.errors
import nats.js.errors
from nats.js.api import ObjectStoreConfig, StorageType
from nats.js.object_store import ObjectStore

from huahuo.eventstore.sequencer.nats_link import ERRORS, Link

STORE_S = 60.0
ORPHAN_S = 86_400.0
"""An object that is older than the log's first proposal by this is referred to by none that is kept."""


def digest_of(proposal: bytes) -> str:
    """The name of its object."""
    return hashlib.sha256(proposal).hexdigest()


async def _store(link: Link, name: str, replicas: int) -> ObjectStore:
    js = link.client.jetstream(timeout=5)
    try:
        return await js.object_store(f"{name}_large")
    except nats.js.errors.NotFoundError:
        config = ObjectStoreConfig(storage=StorageType.FILE, replicas=replicas)
        return await js.create_object_store(f"{name}_large", config)


async def put(link: Link, name: str, replicas: int, proposal: bytes) -> str:
    """Keep `proposal`, unless it is there; its digest.

    Raises:
        nats.errors.Error, TimeoutError, OSError: it may not be kept.
    """
    digest = digest_of(proposal)
    async with asyncio.timeout(STORE_S):
        store = await _store(link, name, replicas)
        with contextlib.suppress(nats.js.errors.NotFoundError):
            if not (await store.get_info(digest)).deleted:
                return digest
        await store.put(digest, proposal)
    return digest


async def get(link: Link, name: str, digest: str) -> bytes | None:
    """The proposal with this digest; None if it is not there, or not whole, yet."""
    with contextlib.suppress(nats.js.errors.Error, *ERRORS):
        async with asyncio.timeout(STORE_S):
            store = await _store(link, name, 1)
            found = (await store.get(digest)).data or b""
            if digest_of(found) == digest:
                return found
    return None


async def sweep(link: Link, name: str, first_at: dt.datetime) -> None:
    """Delete objects that no proposal refers to; the log's first one was put in order at `first_at`."""
    before = first_at - dt.timedelta(seconds=ORPHAN_S)
    js = link.client.jetstream(timeout=5)
    try:
        store = await js.object_store(f"{name}_large")
        for found in await store.list():
            if found.mtime and dt.datetime.fromisoformat(found.mtime) < before:
                await store.delete(found.name)
    except nats.js.errors.NotFoundError:
        return  # no store, or nothing in it
