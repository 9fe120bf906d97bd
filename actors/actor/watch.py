"""Death watch: tells the watchers of an actor that it has ended.

A watch ends with the watched actor or with the watcher, so no data of dead actors is kept. Delivery never
fails for want of room, because a Terminated is the runtime's own message.
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
    """Send `watcher` a `Terminated(ref, reason)` when the actor dies, or now if it is dead."""
    with watched.runtime.lock:
        # A live actor's inbox lists the actors that it watches, to end these watches when it dies.
        if DEAD not in {watched.state, watcher.state}:
            watcher.extras.watching[ref.actor_urn] = watched
    on_terminated(ref, watched, watcher_urn, functools.partial(_tell, watcher))


def on_terminated(
    ref: ActorRef[Any], watched: Inbox, key: object, callback: Callable[[Terminated], None]
) -> None:
    """Call `callback` when the actor dies, or now if it is dead. `key` identifies the watch."""
    with watched.runtime.lock:
        if watched.state != DEAD:
            watched.extras.watchers[key] = callback
            return
    callback(Terminated(ref, watched.reason or Reason.STOPPED))


def unwatch(ref: ActorRef[Any], watched: Inbox, watcher: Inbox, watcher_urn: str) -> None:
    """End a watch. Its message may already be delivered."""
    _forget(watcher, ref.actor_urn)
    _drop(watched, watcher_urn)


def _drop(watched: Inbox, key: object) -> None:
    with watched.runtime.lock:
        if watched.has_extras:
            watched.extras.watchers.pop(key, None)


def announce(ref: ActorRef[Any], reason: Reason, extras: Extras) -> None:
    """Tell the watchers of a dead actor, and end its own watches."""
    for watched in extras.watching.values():
        _drop(watched, ref.actor_urn)
    for deliver in extras.watchers.values():
        try:
            deliver(Terminated(ref, reason))
        except Exception as trouble:  # noqa: BLE001  a failing watcher must not stop the others
            _log.error("actor_watch_failed", actor=str(ref), error=type(trouble).__name__)


def _tell(watcher: Inbox, news: Terminated) -> None:
    _forget(watcher, news.ref.actor_urn)
    watcher.put_unbounded(Envelope(news))


def _forget(watcher: Inbox, urn: str) -> None:
    with watcher.runtime.lock:
        if watcher.has_extras:
            watcher.extras.watching.pop(urn, None)
