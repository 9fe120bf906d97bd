"""Death watch: who wants to hear that an actor has ended, and telling them.

A watch ends with the actor that is watched or with the one that watches, so nothing is kept for the
dead. Delivery never meets a full inbox: a Terminated is the runtime's own message.
"""

import functools
from collections.abc import Callable
from typing import Any

import structlog
from pykka import ActorRef

from huahuo.actors.actor.inbox import DEAD, Extras, Inbox
from huahuo.actors.actor.messages import Envelope, Reason, Terminated

_log = structlog.get_logger("actors")


def watch(ref: ActorRef[Any], watched: Inbox, watcher: Inbox, watcher_urn: str) -> None:
    """Let `watcher` receive `Terminated(ref, reason)`, at once if the actor is dead already."""
    with watched.runtime.lock:
        # While an actor lives its inbox knows whom it watches, to take the watches back at its end.
        if DEAD not in {watched.state, watcher.state}:
            watcher.extras.watching[ref.actor_urn] = watched
    on_terminated(ref, watched, watcher_urn, functools.partial(_tell, watcher))


def on_terminated(
    ref: ActorRef[Any], watched: Inbox, key: object, callback: Callable[[Terminated], None]
) -> None:
    """Let `callback` be called at the actor's end, or now; `key` names the watch."""
    with watched.runtime.lock:
        if watched.state != DEAD:
            watched.extras.watchers[key] = callback
            return
    callback(Terminated(ref, watched.reason or Reason.STOPPED))


def unwatch(ref: ActorRef[Any], watched: Inbox, watcher: Inbox, watcher_urn: str) -> None:
    """Take a watch back; it may have been delivered already."""
    _forget(watcher, ref.actor_urn)
    _drop(watched, watcher_urn)


def _drop(watched: Inbox, key: object) -> None:
    with watched.runtime.lock:
        if watched.has_extras:
            watched.extras.watchers.pop(key, None)


def announce(ref: ActorRef[Any], reason: Reason, extras: Extras) -> None:
    """Tell the watchers of a dead actor, and take back what it watched itself."""
    for watched in extras.watching.values():
        _drop(watched, ref.actor_urn)
    for deliver in extras.watchers.values():
        try:
            deliver(Terminated(ref, reason))
        except Exception as trouble:  # noqa: BLE001  one watcher's trouble is not the next one's
            _log.error("actor_watch_failed", actor=str(ref), error=type(trouble).__name__)


def _tell(watcher: Inbox, news: Terminated) -> None:
    _forget(watcher, news.ref.actor_urn)
    watcher.put_unbounded(Envelope(news))


def _forget(watcher: Inbox, urn: str) -> None:
    with watcher.runtime.lock:
        if watcher.has_extras:
            watcher.extras.watching.pop(urn, None)
