"""Recorded history in files: read from a directory or an export, exported, imported into a new log.

A directory, live or copied, is only read. Before anything is shown, its end is checked against the hash
chain; a damaged log is refused with the position of the damage.

| format | for |
|---|---|
| `jsonl` | replay, `import`, jq: the bodies byte for byte, with the hash chain |
| `csv`, `parquet` | spreadsheets, pandas, DuckDB: one row per event, the body as JSON text |
| `cloudevents` | CloudEvents 1.0 in JSON, one event per line |

None of them contains secrets.
"""

import asyncio
import csv
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from huahuo.actors.plugins.past import Past
from huahuo.app import credentials
from huahuo.app.config import Settings
from huahuo.app.credentials import others_beside
from huahuo.audit.audited_log import say_missing
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.chain import GENESIS, check
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.replay.history import detached_history
from huahuo.replay.history.detached_history import parse_lines
from huahuo.replay.history.history import History, ListHistory, merged
from huahuo.replay.history.subject import RecentSubject, Subject

CHECKED_EVENTS = 100_000
"""Newest events whose hashes are checked at every opening."""
_EXPORT_EVENTS_MAX = 5_000_000
_PAGE_EVENTS = 1000


@asynccontextmanager
async def open_source(path: Path, *, whole: bool = False) -> AsyncIterator[History]:
    """The history at `path`. With `whole`, the hash of every event is checked.

    Raises:
        ConfigError: there is none. Damaged: it was changed; the text has the position.
        EventStoreError: it cannot be read.
    """
    if path.is_file():  # noqa: ASYNC240  nothing else runs on this loop
        yield load_export(path, whole=whole)
        return
    if not path.is_dir():  # noqa: ASYNC240
        raise ConfigError(f"there is no directory or export {path}: check --data{others_beside(path)}")
    view = await SqliteView.open(path)
    try:
        say_missing(view)
        await _check(view, whole=whole)
        yield view
    finally:
        await view.close()


def load_export(path: Path, *, whole: bool = False) -> ListHistory:
    """An export in memory. With `whole`, the hashes of its events are checked.

    Raises:
        ConfigError: it is not an export, or not one of a whole log, so it cannot be checked. Damaged.
    """
    try:
        with path.open("rb") as file:
            head, events = parse_lines(file)
            kept = []
            for event in events:
                kept.append(event)
                if len(kept) > _EXPORT_EVENTS_MAX:
                    raise ConfigError(f"{path} holds more than {_EXPORT_EVENTS_MAX} events: import it")
            if whole:
                if kept and len(kept) != kept[-1].position:
                    raise ConfigError(f"{path} is not of a whole log: its hashes cannot be checked")
                check(GENESIS, 0, {}, kept)
            return ListHistory(kept, head.log)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


async def subject(past: Past, history: History, entity: str) -> Subject:
    """The subject that `entity` names: an entity of a plug-in, or any stream.

    Raises:
        LookupError: the history has no event about it.
    """
    found = await past.subject_of(history, entity)
    if found is not None:
        return found
    if not history.head(entity).seq:
        raise LookupError(f"nothing ever happened to {entity}")
    return RecentSubject(entity)


async def _check(view: SqliteView, *, whole: bool) -> None:
    start = 0 if whole else max(0, view.position - CHECKED_EVENTS)
    try:
        await view.verify(start)
    except Damaged as error:
        if error.position:
            raise
        raise Damaged(await _unreadable(view, start), error.reason) from None


async def _unreadable(view: SqliteView, at: int) -> int:
    """The first position after `at` that SQLite cannot read."""
    for events_max in (_PAGE_EVENTS, 1):
        while at < view.position:
            try:
                page = await view.read(LOG_STREAM, at, events_max=events_max)
            except EventStoreError:
                break
            if not page:
                break
            at = page[-1].position
    return at + 1


COLUMNS: Final = (
    "position", "stream", "seq", "type", "timestamp", "entity", "principal", "command_id", "cause",
    "build", "version", "sealed", "data",
)  # fmt: skip
_NUMBERS: Final = ("position", "seq", "cause", "version")
_ROWS_AT_ONCE = 10_000
_APPEND_EVENTS = 1000
_APPENDS_AT_ONCE = 512


type _Add = Callable[[StoredEvent, tuple[str, ...]], object]
"""Writes one event, with the names of the secrets that were sealed with it."""


async def export(
    history: History,
    streams: tuple[str, ...],
    after: int,
    upto: int,
    form: str,
    target: Path | None,
    sealed_in: Callable[[StoredEvent], tuple[str, ...]],
) -> int:
    """Write the events of the named streams, else all, to a file or standard output. Returns how many.

    `sealed_in`: the names of the secrets that were sealed with an event.

    Raises:
        ConfigError: the format's library is not installed, or the file cannot be written.
    """
    try:
        count = 0
        with _opened(target) as file, _WRITERS[form](file, history, upto) as add:
            async for piece in merged(history, streams or (LOG_STREAM,), after, upto):
                for event in piece:
                    add(event, sealed_in(event))
                count += len(piece)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    return count


async def import_(source: Path, settings: Settings, ambient: Ambient) -> tuple[int, str]:
    """Write an export in JSON Lines into a new log. Returns the number of events and the log's id.

    Positions are renumbered without gaps, and causes with them. An export holds only events, so the new log
    has no secrets, mail bodies, projections or answers to commands.

    Raises:
        ConfigError: there is a log already, or the file is not an export. Damaged: a stream's events are
        not complete from the first one on.
    """
    history = load_export(source)
    if (settings.data / DATABASE).exists():
        raise ConfigError(f"there is a log in {settings.data} already: import makes a new one")
    for stream in history.streams(""):
        if history.head(stream).first != 1:
            raise Damaged(0, f"{stream} begins with event {history.head(stream).first} in this export")
    secrets = credentials.ensure_keys(settings, ambient)
    log = await SqliteLog.open(settings.data, ambient=ambient, master_key=secrets.master_key, build=BUILD)
    try:
        await rewrite(history.events, log)
        return len(history.events), log.log_id
    finally:
        await log.close()


async def rewrite(events: list[StoredEvent], log: Log) -> None:
    """Append events unchanged to an empty log, with positions from 1."""
    new_positions = {event.position: number for number, event in enumerate(events, start=1)}
    for runs in batched(runs_of(events), _APPENDS_AT_ONCE):
        # Appends commit in the order of their calls. Called concurrently, they share commits.
        await asyncio.gather(*(log.append(append_of(run, new_positions)) for run in runs))


def append_of(run: list[StoredEvent], new_positions: Mapping[int, int]) -> Append:
    """One append that writes a run of events unchanged, except for the new position of the cause."""
    first = run[0]
    return Append(
        ts_ms=first.ts_ms,
        events=tuple(NewEvent(e.stream, e.type, e.body, e.version, e.entity) for e in run),
        principal=first.principal,
        command_id=first.command_id,
        cause=new_positions.get(first.cause, 0),
    )


def runs_of(events: list[StoredEvent]) -> list[list[StoredEvent]]:
    """Runs of neighbours that one append can write, with the same time, author, command and cause."""
    runs: list[list[StoredEvent]] = []
    for event in events:
        if runs and len(runs[-1]) < _APPEND_EVENTS and _written_as(runs[-1][0]) == _written_as(event):
            runs[-1].append(event)
        else:
            runs.append([event])
    return runs


def _written_as(event: StoredEvent) -> tuple[int, str, str, int]:
    return event.ts_ms, event.principal, event.command_id, event.cause


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """The file to write, or standard output. An unfinished file is removed."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _json_lines(file: BinaryIO, history: History, upto: int) -> Iterator[_Add]:
    file.write(detached_history.header(history.log_id, upto) + b"\n")
    yield lambda event, sealed: file.write(detached_history.line(event, sealed) + b"\n")


@contextmanager
def _cloud_events(file: BinaryIO, history: History, _upto: int) -> Iterator[_Add]:
    """`source` names log and stream, `id` is the position. The standard requires the pair to be unique."""

    def add(event: StoredEvent, sealed: tuple[str, ...]) -> None:
        shown: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(event.position),
            "source": f"huahuo:{history.log_id}/{event.stream}",
            "type": event.type,
            "subject": event.entity or event.stream,
            "time": rfc3339(event.ts_ms),
            "datacontenttype": "application/json",
            "sequence": f"{event.seq:020}",
            "principal": event.principal or None,
            "commandid": event.command_id or None,
            "cause": str(event.cause) if event.cause else None,
            "sealed": ",".join(dict.fromkeys(sealed)) or None,
            "data": msgspec.Raw(event.body),
        }
        file.write(json_bytes({k: v for k, v in shown.items() if v is not None}) + b"\n")

    yield add


def _row(event: StoredEvent, sealed: tuple[str, ...]) -> tuple[Any, ...]:
    names = dict.fromkeys(sealed, "[sealed]")
    return (
        event.position,
        event.stream,
        event.seq,
        event.type,
        rfc3339(event.ts_ms),
        event.entity,
        event.principal,
        event.command_id,
        event.cause,
        event.build,
        event.version,
        json_bytes(names).decode() if names else "",
        event.body.decode(),
    )


@contextmanager
def _csv(file: BinaryIO, _history: History, _upto: int) -> Iterator[_Add]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    yield lambda event, sealed: rows.writerow([_inert(cell) for cell in _row(event, sealed)])
    text.flush()
    text.detach()


def _inert(cell: Any) -> Any:
    """Quote a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


@contextmanager
def _parquet(file: BinaryIO, _history: History, _upto: int) -> Iterator[_Add]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("Parquet needs pyarrow: pip install 'huahuo[parquet]'") from None
    schema = pa.schema([(name, pa.int64() if name in _NUMBERS else pa.string()) for name in COLUMNS])
    writer, rows = pq.ParquetWriter(file, schema), list[tuple[Any, ...]]()

    def flush() -> None:
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        named = dict(zip(COLUMNS, map(list, columns), strict=True))
        writer.write_table(pa.Table.from_pydict(named, schema=schema))
        rows.clear()

    def add(event: StoredEvent, sealed: tuple[str, ...]) -> None:
        rows.append(_row(event, sealed))
        if len(rows) >= _ROWS_AT_ONCE:
            flush()

    yield add
    flush()
    writer.close()


_WRITERS: Final[dict[str, Callable[[BinaryIO, History, int], AbstractContextManager[_Add]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "parquet": _parquet,
    "cloudevents": _cloud_events,
}
