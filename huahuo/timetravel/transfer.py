"""`huahuo replay export` and `import`: history as files for other tools, and from a file into a new log.

| format | for |
|---|---|
| `jsonl` | replay, `import`, jq: the bodies byte for byte, with the hash chain |
| `csv`, `parquet` | spreadsheets, pandas, DuckDB: one row per event, the body as JSON text |
| `cloudevents` | CloudEvents 1.0 in JSON, one event per line |

None of them contains secrets: an event has only their names, which are shown as `[sealed]`. Mail bodies and
other blobs are not exported.
"""

import asyncio
import csv
import io
import sys
from collections.abc import Callable, Mapping
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.replay.history import exported
from huahuo.replay.history.history import History, merged
from huahuo.timetravel.source import load_export

COLUMNS: Final = (
    "position", "stream", "seq", "type", "timestamp", "entity", "principal", "command_id", "cause",
    "build", "version", "sealed", "data",
)  # fmt: skip
_NUMBERS: Final = ("position", "seq", "cause", "version")
_ROWS_AT_ONCE = 10_000
_APPEND_EVENTS = 1000
_APPENDS_AT_ONCE = 512


class _Writer(Protocol):
    def add(self, event: StoredEvent, sealed: tuple[str, ...]) -> None: ...

    def close(self) -> None: ...


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
        with _Target(target) as file:
            writer = _WRITERS[form](file, history, upto)
            count = 0
            async for piece in merged(history, streams or (LOG_STREAM,), after, upto):
                for event in piece:
                    writer.add(event, sealed_in(event))
                count += len(piece)
            writer.close()
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
    secrets = keys.ensure(settings, ambient)
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


class _Target:
    """The file to write, or standard output. An unfinished file is removed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._partial = None if path is None else path.with_name(path.name + ".partial")
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        if self._partial is None:
            return sys.stdout.buffer
        self._file = self._partial.open("wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None or self._partial is None or self._path is None:
            sys.stdout.buffer.flush()
            return
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


class _JsonLines:
    def __init__(self, file: BinaryIO, history: History, upto: int) -> None:
        self._file = file
        file.write(exported.header(history.log_id, upto) + b"\n")

    def add(self, event: StoredEvent, sealed: tuple[str, ...]) -> None:
        self._file.write(exported.line(event, sealed) + b"\n")

    def close(self) -> None:
        pass


class _CloudEvents:
    """`source` names log and stream, `id` is the position. The standard requires the pair to be unique."""

    def __init__(self, file: BinaryIO, history: History, _upto: int) -> None:
        self._file = file
        self._source = f"huahuo:{history.log_id}/"

    def add(self, event: StoredEvent, sealed: tuple[str, ...]) -> None:
        names = dict.fromkeys(sealed, "[sealed]")
        shown: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(event.position),
            "source": self._source + event.stream,
            "type": event.type,
            "subject": event.entity or event.stream,
            "time": rfc3339(event.ts_ms),
            "datacontenttype": "application/json",
            "sequence": f"{event.seq:020}",
            "principal": event.principal or None,
            "commandid": event.command_id or None,
            "cause": str(event.cause) if event.cause else None,
            "sealed": ",".join(names) or None,
            "data": msgspec.Raw(event.body),
        }
        self._file.write(json_bytes({k: v for k, v in shown.items() if v is not None}) + b"\n")

    def close(self) -> None:
        pass


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


class _Csv:
    def __init__(self, file: BinaryIO, _history: History, _upto: int) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._csv.writerow(COLUMNS)

    def add(self, event: StoredEvent, sealed: tuple[str, ...]) -> None:
        self._csv.writerow([_inert(cell) for cell in _row(event, sealed)])

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


def _inert(cell: Any) -> Any:
    """Quote a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


class _Parquet:
    def __init__(self, file: BinaryIO, _history: History, _upto: int) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise ConfigError("Parquet needs pyarrow: pip install 'huahuo[parquet]'") from None
        self._schema = pa.schema(
            [(name, pa.int64() if name in _NUMBERS else pa.string()) for name in COLUMNS]
        )
        self._table = pa.Table
        self._parquet = pq.ParquetWriter(file, self._schema)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, event: StoredEvent, sealed: tuple[str, ...]) -> None:
        self._rows.append(_row(event, sealed))
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(COLUMNS)
        named = dict(zip(COLUMNS, map(list, columns), strict=True))
        self._parquet.write_table(self._table.from_pydict(named, schema=self._schema))
        self._rows.clear()


_WRITERS: Final[dict[str, Callable[[BinaryIO, History, int], _Writer]]] = {
    "jsonl": _JsonLines,
    "csv": _Csv,
    "parquet": _Parquet,
    "cloudevents": _CloudEvents,
}
