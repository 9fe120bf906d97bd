"""`huahuo audit`: query, verify, checkpoint, prove, shred, serve, and their output.

Output is JSON, a table on a terminal, or lines in a pipe. `serve` shows the audit index in Datasette, a
process of its own on DIR/audit.db, which holds no secret. Without the sign-in link a visitor sees no
data. Every request for data is recorded in the log before it is answered
(`datasette_plugins/record_questions.py`). Meanwhile this process keeps the index up to date.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from huahuo.actors.domain.jobs import KIND as JOB
from huahuo.actors.plugins.past import Past, Reader
from huahuo.admin import data_of, plain_row, shredding
from huahuo.app.config import Settings
from huahuo.audit.audited_log import Place, ask_service, looking, no_log, principal, reading, writing
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.audit.index import METADATA, Audit, AuditPage, Counted, Where
from huahuo.eventstore.audit.proof import (
    KEY_FILE,
    Checkpoint,
    NotProvable,
    SigningKey,
    check_against,
    checkpoint_of,
    open_note,
)
from huahuo.eventstore.audit.proof import prove as prove_event
from huahuo.eventstore.audit.tables import Row
from huahuo.eventstore.care.backup import must_be_as_made
from huahuo.eventstore.care.verify import verify as verify_log
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.limits import PAGE_ROWS_MAX
from huahuo.eventstore.model import LOG_STREAM, Append
from huahuo.eventstore.sqlite.directory_lock import is_original, left_of
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.options import (
    EXIT_NOTHING,
    EXIT_OK,
    ConfigFile,
    Json,
    Look,
    finish,
    known,
    program,
    reader,
    settings,
)
from huahuo.replay.history.history import parse_event
from huahuo.terminal import moment_or_ago, printable, show_json

_DATA_CHARS_MAX = 400


def show_page(
    page: AuditPage, counted: Counted, past: Past, reader: Reader, *, as_json: bool, recorded: bool
) -> None:
    """Show a page of rows, the total, the facets, and how to get the next page."""
    if as_json:
        show_json(
            {
                "rows": [plain_row(row, past) for row in page.rows],
                "next": page.next,
                "count": counted.count,
                "exact": counted.exact,
                "facets": counted.facets,
                "recorded": recorded,
            }
        )
        return
    console = Console(highlight=False, emoji=False)
    if console.is_terminal:
        console.print(_table(page.rows, past, reader))
    else:
        for row in page.rows:
            sys.stdout.write("\t".join(_cells(row, past, reader)) + "\n")
    about = Console(stderr=True, highlight=False, emoji=False)
    about.print(f"{len(page.rows)} of {'' if counted.exact else 'more than '}{counted.count} events")
    for name, values in counted.facets.items():
        if values:
            listed = ", ".join(f"{value} {count}" for value, count in values.items())
            about.print(f"  {name}: {printable(listed)}", markup=False, soft_wrap=True)
    if page.next is not None:
        about.print(f"more: --after {page.next}")


def _table(rows: list[Row], past: Past, reader: Reader) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("position", "time", "event", "type", "principal", "entity", "data"):
        table.add_column(name, justify="right" if name == "position" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in _cells(row, past, reader)))
    return table


def _cells(row: Row, past: Past, reader: Reader) -> list[str]:
    fields = reader.fields(row.type, data_of(row, past))
    data = {name: value for name, value in fields.items() if name not in ("type", "timestamp")}
    text = msgspec.json.encode(data).decode()
    if len(text) > _DATA_CHARS_MAX:
        text = text[: _DATA_CHARS_MAX - 1] + "…"
    cells = [str(row.position), row.timestamp, f"{row.stream}#{row.seq}", row.type, row.principal, row.entity]
    return [printable(cell) for cell in (*cells, text)]


app = program("audit", "")  # its help is in huahuo/cli/main.py, which loads this

Out = Annotated[Path | None, typer.Option(help="Write it to this file.")]
CheckpointFile = Annotated[Path | None, typer.Option("--checkpoint", help="A signed checkpoint.")]
Key = Annotated[
    str, typer.Option(help="Its public key, name+hash+key.", show_default="the directory's own key")
]
Owner = Annotated[
    str, typer.Argument(metavar="ENTITY", help="Whose secrets: mailbox/17, or only the number of a mailbox.")
]

_AMBIENT = SystemAmbient()
_INDEXED_QUIETLY = 20_000
_note = Console(stderr=True, highlight=False, emoji=False)


@app.command(epilog="Example:  huahuo audit query --entity mailbox/17 --since -7d --text 'login refused'")
def query(
    data: Look = None,
    config_file: ConfigFile = None,
    stream: Annotated[str, typer.Option(help="user/42, mailbox/17, auth, audit, …")] = "",
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Of one of these types; repeatable.")
    ] = None,
    principal: Annotated[str, typer.Option(help="Who did it: user/42, service, …")] = "",
    entity: Annotated[str, typer.Option(help="What it is about: mailbox/17.")] = "",
    command: Annotated[str, typer.Option(help="The id of the command that caused it.")] = "",
    since: Annotated[str, typer.Option(help="From this time on: RFC 3339, or -5m, -2h, -7d.")] = "",
    until: Annotated[str, typer.Option(help="Up to this time.")] = "",
    text: Annotated[str, typer.Option(help="All these words in its fields; word* for a beginning.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Go on behind this position.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS_MAX, help="Rows of a page.")] = 50,
    as_json: Json = False,
) -> None:
    """Find events by who, what, when and why, with full text, counts and facets."""
    given, now_ms = settings(data, config_file), _AMBIENT.now_ms()
    try:
        where = Where(
            stream=stream,
            types=tuple(type_ or ()),
            principal=principal,
            entity=entity,
            command_id=command,
            since=moment_or_ago(since, now_ms),
            until=moment_or_ago(until, now_ms),
            text=text,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    finish(find_events(given, where, after=after, limit=limit, as_json=as_json))


async def find_events(settings: Settings, where: Where, *, after: int, limit: int, as_json: bool) -> int:
    """Show a page of the matching events."""
    async with looking(settings, "audit query", {**where.described(), "after": after}) as place:
        audit = await Audit.open(place.log, place.index, copied=place.is_copy)
        try:
            await _catch_up(audit, quiet=as_json)
            page = await audit.page(where, after=after, upto=place.upto, limit=limit)
            counted = await audit.count(where, upto=place.upto)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        finally:
            await audit.close()
        show_page(page, counted, known(), reader(), as_json=as_json, recorded=place.recorded)
        return EXIT_OK if page.rows else EXIT_NOTHING


@app.command(epilog="Example:  huahuo audit verify --checkpoint 2026-11.note --key 'huahuo/…+…+…'")
def verify(
    data: Look = None,
    config_file: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    key: Key = "",
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="Begin behind what the checkpoint sealed.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many processes check at one time.", show_default="one a core"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every event against the hash chain, and history against a signed checkpoint."""
    given = settings(data, config_file)
    finish(_verify(given, checkpoint, key, processes, from_checkpoint=from_checkpoint, as_json=as_json))


async def _verify(
    settings: Settings,
    checkpoint: Path | None,
    key: str,
    processes: int | None,
    *,
    from_checkpoint: bool,
    as_json: bool,
) -> int:
    signed = None if checkpoint is None else _opened(settings, checkpoint, key)[0]
    if from_checkpoint and signed is None:
        raise ConfigError("give --checkpoint FILE to begin at")
    try:
        async with reading(settings) as place:
            if signed is not None:
                await check_against(place.log, signed)
            after = signed.size if signed is not None and from_checkpoint else 0
            left = left_of(settings.data)
            found = await verify_log(place.log, place.path, after=after, left=left, processes=processes)
            must_be_as_made(settings.data, found, place.path)
    except Damaged as error:
        _say_damaged(error, as_json=as_json)
        return EXIT_NOTHING
    if as_json:
        show_json(
            {
                "ok": True, "log": found.log_id, "from": found.after, "events": found.position - found.after,
                "head": {"position": found.position, "chain": found.chain.hex()}, "pruned": found.pruned,
                "checkpoint": None if signed is None else signed.size,
            }
        )  # fmt: skip
        return EXIT_OK
    print(f"ok: {found.position - found.after} events up to position {found.position} are what was written")  # noqa: T201
    if found.pruned:
        print(f"    {found.pruned} of them are pruned, each with a receipt")  # noqa: T201
    if signed is not None:
        print(f"    the first {signed.size} are those that were signed")  # noqa: T201
    return EXIT_OK


@app.command(epilog="Example:  huahuo audit checkpoint --out 2026-11.note   (and give it away)")
def checkpoint(
    data: Look = None, config_file: ConfigFile = None, out: Out = None, as_json: Json = False
) -> None:
    """Check the log and sign where it stands, so that a later rewrite can be shown."""
    finish(_checkpoint(settings(data, config_file), out, as_json=as_json))


async def _checkpoint(settings: Settings, out: Path | None, *, as_json: bool) -> int:
    async with looking(settings, "audit checkpoint", {}) as place:
        await verify_log(place.log, place.path)
        note, vkey = await _signed(settings, place)
    if out is not None:
        out.write_text(note, encoding="utf-8")  # noqa: ASYNC240  nothing else runs on this loop
    if as_json:
        show_json({"note": note, "key": vkey})
        return EXIT_OK
    if out is None:
        sys.stdout.write(note)
    _note.print(f"public key: {vkey}", markup=False, soft_wrap=True)
    return EXIT_OK


@app.command(epilog="Example:  huahuo audit prove user/42#17 --out event.proof")
def prove(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="STREAM#SEQ, or @POSITION.")],
    data: Look = None,
    config_file: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    key: Key = "",
    out: Out = None,
) -> None:
    """Write a proof (JSON) that an event is in the log, for somebody who trusts only the checkpoint."""
    finish(_prove(settings(data, config_file), event, checkpoint, key, out))


async def _prove(settings: Settings, event: str, checkpoint: Path | None, key: str, out: Path | None) -> int:
    try:
        stream, number = parse_event(event)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    async with looking(settings, "audit prove", {"event": event}) as place:
        if checkpoint is None:
            note, vkey = await _signed(settings, place)
            signed = open_note(note, vkey)
        else:
            signed, note, vkey = _opened(settings, checkpoint, key)
        try:
            await check_against(place.log, signed)
            position = await _position(place.log, stream, number)
            proof = await prove_event(place.log, position, signed.size)
        except NotProvable as error:
            _note.print(f"not provable: {error.args[0]}", markup=False)
            return EXIT_NOTHING
    proof |= {"checkpoint": note, "key": vkey}
    if out is None:
        show_json(proof)
    else:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(proof)) + b"\n")  # noqa: ASYNC240  nothing else runs
    return EXIT_OK


@app.command(epilog="Example:  huahuo audit shred 17")
def shred(entity: Owner, data: Look = None, config_file: ConfigFile = None) -> None:
    """Destroy the key of an entity's stored secrets; a receipt stays in the log."""
    given, owner = settings(data, config_file), _entity(entity)

    async def body() -> int:
        if await _shred(given, owner):
            typer.echo("shredded")
            return EXIT_OK
        typer.echo(f"nothing about {owner} is in the log, so there is no key to destroy", err=True)
        return EXIT_NOTHING

    finish(body())


async def _shred(settings: Settings, owner: str) -> bool:
    """Destroy the key and leave a receipt. False if there is no such entity.

    Raises:
        ConfigError: the directory is a copy. HuahuoError: the service refused.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is not None:
            if not log.head(owner).seq:
                return False
            now_ms = _AMBIENT.now_ms()
            event = shredding(owner, now_ms)
            await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal(), shred=(owner,)))
            return True
    async with reading(settings) as place:
        if not place.log.head(owner).seq:
            return False
    await ask_service(settings, "shred", entity=owner)
    return True


def must_be_original(settings: Settings) -> None:
    """Raise ConfigError for a copy, because copies are never changed, and where there is no log."""
    if not (settings.data / DATABASE).is_file():
        raise ConfigError(no_log(settings.data))
    if not is_original(settings.data):
        raise ConfigError(
            f"{settings.data} is a copy, or no service has written it yet: only an original is changed"
        )


def _entity(text: str) -> str:
    """The entity that the text names. A number alone is one of the kind that the plug-ins give a field to.

    Jobs do not count: they keep no secrets.
    """
    kinds = [kind for kind in known().entity_fields.values() if kind != JOB]
    if "/" not in text and text.isdecimal() and len(kinds) == 1:
        return f"{kinds[0]}/{int(text)}"
    if "/" not in text:
        raise ConfigError(f"not the name of an entity, such as order/7: {text!r}")
    return text


async def _catch_up(audit: Audit, *, quiet: bool) -> None:
    """Build the index up to the head, with a progress bar if that takes a while."""
    behind = await audit.behind()
    if quiet or behind < _INDEXED_QUIETLY or not _note.is_terminal:
        await audit.catch_up()
        return
    with Progress(console=_note, transient=True) as progress:
        task = progress.add_task("making the audit index", total=behind)
        await audit.catch_up(told=lambda at, upto: progress.update(task, completed=behind - (upto - at)))


async def _signed(settings: Settings, place: Place) -> tuple[str, str]:
    """A signed note of the log's head, and the public key. Only an original gets a key of its own."""
    path = settings.data / KEY_FILE
    key = SigningKey.ensure(path, _AMBIENT) if is_original(settings.data) else SigningKey.load(path)
    signed = await checkpoint_of(place.log)
    return key.sign(signed), key.vkey(signed.origin)


def _opened(settings: Settings, note: Path, key: str) -> tuple[Checkpoint, str, str]:
    """The checkpoint in a file, its text, and the public key that verified it.

    Without `key` the directory's own is used. Then the note can be trusted only as far as the directory.
    """
    try:
        text = note.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {note}: {error}") from None
    vkey = key or SigningKey.load(settings.data / KEY_FILE).vkey(text.partition("\n")[0])
    return open_note(text, vkey), text, vkey


async def _position(log: LogReader, stream: str, number: int) -> int:
    if stream == LOG_STREAM:
        return number
    found = await log.read(stream, number - 1, events_max=1)
    if not found or found[0].seq != number:
        raise NotProvable(f"there is no event {stream}#{number} (any more)")
    return found[0].position


def _say_damaged(error: Damaged, *, as_json: bool) -> None:
    if as_json:
        show_json({"ok": False, "damaged": {"position": error.position, "reason": error.reason}})
    else:
        print(f"damaged at position {error.position}: {error.reason}")  # noqa: T201


REFRESH_S = 2.0
PLUGINS = Path(__file__).parent / "datasette_plugins"
DATA_VARIABLE = "HUAHUO_AUDIT_DATA"

_log = structlog.get_logger(__name__)


@app.command(epilog="Example:  huahuo audit serve --port 8001   (needs pip install 'huahuo[audit]')")
def serve(
    data: Look = None,
    config_file: ConfigFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 8001,
) -> None:
    """Browse the audit index in Datasette, behind a sign-in link."""
    finish(_serve(settings(data, config_file), host, port))


async def _serve(settings: Settings, host: str, port: int) -> int:
    if importlib.util.find_spec("datasette") is None:
        raise ConfigError("Datasette is not installed: pip install 'huahuo[audit]'")
    async with looking(settings, "audit serve", {"host": host, "port": port}) as place:
        audit = await Audit.open(place.log, place.index, copied=place.is_copy)
        try:
            await audit.catch_up()
        finally:
            await audit.close()
        if not is_original(settings.data):  # the private copy lives until we stop
            await _run(place.index, host, port, data=None)
            return EXIT_OK
    await _run(place.index, host, port, data=settings.data)
    return EXIT_OK


async def _run(index: Path, host: str, port: int, *, data: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="huahuo-audit-") as folder:
        metadata = Path(folder) / "metadata.json"
        metadata.write_bytes(msgspec.json.encode(METADATA))
        environ = {**os.environ, DATA_VARIABLE: "" if data is None else os.fspath(data)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "datasette", "serve", str(index), "--metadata", str(metadata),
            "--plugins-dir", str(PLUGINS), "--host", host, "--port", str(port), "--root",
            "--setting", "sql_time_limit_ms", "5000", "--setting", "allow_download", "off",
            env=environ,
        )  # fmt: skip
        following = asyncio.create_task(_follow(index, data)) if data is not None else None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, process.terminate)
        try:
            await process.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _follow(index: Path, data: Path) -> None:
    """Update the index whenever the log's files have changed."""
    seen: list[tuple[int, int]] = []
    while True:
        now = _stamps(data)
        if now != seen:
            try:
                await _bring_forward(index, data)
                seen = now
            except EventStoreError as error:
                _log.warning("audit_index_not_at_the_head", reason=str(error))
        await asyncio.sleep(REFRESH_S)


async def _bring_forward(index: Path, data: Path) -> None:
    view = await SqliteView.open(data)
    try:
        audit = await Audit.open(view, index)
        try:
            await audit.catch_up()
        finally:
            await audit.close()
    finally:
        await view.close()


def _stamps(data: Path) -> list[tuple[int, int]]:
    """Size and time of the log's files, from `stat`: the files are not opened."""
    stamps: list[tuple[int, int]] = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            stat = (data / (DATABASE + suffix)).stat()
            stamps.append((stat.st_size, stat.st_mtime_ns))
    return stamps
