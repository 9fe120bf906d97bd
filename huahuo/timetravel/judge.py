"""Runs the folds and deciders of *any* version of this project on recorded events. A separate program.

    PYTHONPATH=/path/of/that/version python -P judge.py EVENTS < asked > findings

`huahuo replay check` and `bisect` run it once per version, and compare its output. It imports only modules
with a stable form: the events, folds and commands of `mailcheck`, found by `layouts.py`. It has no effects:
an audit hook refuses sockets, processes and writing to files.

EVENTS holds lines of an export (`huahuo.replay.history.exported.Line`) without its header. `asked` is
`{"trace":[position, …]}`: name the line of code that made the change at these positions. The output is one
JSON object per line:

    {"code":"/path/of/that/version/mailcheck/__init__.py"}
    {"position":7,"entity":"mailbox/17","shown":{…}}                   the state after an event
    {"position":5,"entity":"mailbox/17","command":"Begin","first":5,
     "recorded":[…],"decided":[…]}                                     an append decided again, differently
    {"position":9,"entity":"…","error":"KeyError","line":"mailcheck/mailbox/state.py:77"}
    {"decided":812,"underivable":3}                                    at the end
"""

import importlib.util
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import msgspec

_PLUMBING = {
    "say",
    "fact",
    "_say",
    "_fact",
    "public",
    "internal",
    "_event",
    "_status",
    "_say_progress",
    "status",
}
"""Functions that only pass a body on, so the line of their caller is reported."""
_STORING = {"put", "remove", "changed"}
"""Methods of a state that only store what their caller made, so the caller's line is reported."""
_REFUSED = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "shutil.",
    "os.remove",
)


def forbid_effects() -> None:
    """From now on this process can only compute and write to its standard output."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and (
            bool(set(str(arguments[1] or "")) & set("wax+"))
            or bool(int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        )
        if writes or event.startswith(_REFUSED):
            raise PermissionError(f"replay does no effects: {event}")

    sys.addaudithook(hook)


class Judge:
    """Folds every stream, and repeats the decisions whose commands can be derived."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], trace: set[int]) -> None:
        self._domain = _load("layouts").domain(sys.path)

        self._deciders: dict[str, Any] = {
            "mailbox": self._domain.MailboxDecider(),
            "user": self._domain.RosterDecider(),
        }
        self._context = self._domain.Context
        self._states: dict[str, Any] = {}
        self._heads: dict[str, int] = {}
        self._emit = emit
        self._trace = trace
        self._derive = _load("derive").derive
        self.tally: Counter[str] = Counter()

    def append(self, events: list[Any]) -> None:
        """Take the events of what seems to be one append: repeat its decision, then fold its events."""
        rest = events
        while rest:
            derived = self._derive(self._domain, rest)
            part = rest[: derived.count]
            if derived.command is None:
                self.tally["underivable"] += derived.wanted
            else:
                self._decide(derived, part)
            for event in part:
                self._take(event)
            rest = rest[derived.count :]

    def _decide(self, derived: Any, recorded: list[Any]) -> None:
        stream = derived.stream
        kind = stream.partition("/")[0]
        decider = self._deciders[kind]
        state = self._state(stream)
        first = recorded[0]
        context = self._context(
            now_ms=first.ts_ms,
            timestamp=json.loads(first.body)["timestamp"],
            take=lambda counter, _count: derived.numbers.get(counter, 0),
            head=lambda name: self._heads.get(name, 0),
        )
        finding = {
            "position": recorded[-1].position,
            "first": first.position,
            "entity": first.entity or stream,
            "command": type(derived.command).__name__,
        }
        self.tally["decided"] += 1
        try:
            decision = decider.decide(state, derived.command, context)
        except Exception as error:  # noqa: BLE001  any exception of that version is a finding
            self._emit(finding | _raised(error))
            return
        decided = [_said(event.stream, event.type, event.body) for event in decision.events]
        was = [_said(event.stream, event.type, event.body) for event in recorded]
        if decided == was:
            return
        number = next((n for n, (a, b) in enumerate(zip(was, decided, strict=False)) if a != b), len(decided))
        line = _maker(decider, state, derived.command, context, number)
        self._emit(finding | {"recorded": was, "decided": decided, "at": number, "line": line})

    def _take(self, event: Any) -> None:
        self._heads[event.stream] = event.seq
        kind = event.stream.partition("/")[0]
        decider = self._deciders.get(kind)
        if decider is None or not event.stream.partition("/")[2].lstrip("-").isdecimal():
            return
        state = self._state(event.stream)
        finding = {"position": event.position, "entity": event.entity or event.stream, "stream": event.stream}
        try:
            if event.position in self._trace:
                line = _changer(decider, state, event)
                finding["line"] = line
            else:
                state = decider.evolve(state, event)
            self._states[event.stream] = state
        except Exception as error:  # noqa: BLE001
            self._emit(finding | _raised(error))
            return
        self._emit(finding | {"shown": _shown(state, event)})

    def _state(self, stream: str) -> Any:
        state = self._states.get(stream)
        if state is None:
            state = self._states[stream] = self._deciders[stream.partition("/")[0]].initial(stream)
        return state


def _shown(state: Any, event: Any) -> Any:
    """The state of a mailbox, or of a roster the row and the open check that the event concerns."""
    rows = getattr(state, "rows", None)
    if rows is None:
        return msgspec.Raw(msgspec.json.encode(state))
    number = event.entity.partition("/")[2]
    email_id = int(number) if number.isdecimal() else 0
    row = rows.get(email_id)
    return {
        "rows": len(rows),
        "row": None if row is None else msgspec.Raw(msgspec.json.encode(row)),
        "check": state.checks.get(email_id),
    }


def _said(stream: str, type_: str, body: bytes) -> dict[str, Any]:
    """An event for comparison, without the blob id of a mail, because the content is not available here."""
    fields = json.loads(body)
    for mail in fields.get("mails", ()):
        mail.pop("blob", None)
    return {"stream": stream, "type": type_, "body": fields}


def _raised(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "mailcheck" in frame.filename] or list(frames)
    return {"error": type(error).__name__, "line": _place(ours[-1].filename, ours[-1].lineno or 0)}


def _place(file: str, line: int) -> str:
    """`mailcheck/mailbox/state.py:77`, independent of the version's directory."""
    parts = Path(file).parts
    start = len(parts) - 1 - parts[::-1].index("mailcheck") if "mailcheck" in parts else -2
    return f"{'/'.join(parts[start:])}:{line}"


def _changer(decider: Any, state: Any, event: Any) -> str:
    """Fold `event`, and trace the last line of the domain that changed the shown state."""
    seen = {"shown": _shown(state, event), "line": "", "at": ""}

    def look(now: str) -> None:
        shown = _shown(state, event)
        if shown != seen["shown"]:
            seen["shown"], seen["line"] = shown, seen["at"]
        seen["at"] = now

    def local(frame: FrameType, what: str, _argument: Any) -> Any:
        if what == "line":
            look(_place(frame.f_code.co_filename, frame.f_lineno))
        return local

    def enter(frame: FrameType, _what: str, _argument: Any) -> Any:
        code = frame.f_code
        return local if "mailcheck" in code.co_filename and code.co_name not in _STORING else None

    sys.settrace(enter)
    try:
        decider.evolve(state, event)
    finally:
        sys.settrace(None)
    look("")
    return str(seen["line"] or seen["at"])


def _maker(decider: Any, state: Any, command: Any, context: Any, number: int) -> str:
    """The line that makes event `number` of the decision, or that ends the decision without it."""
    made: list[str] = []
    last = [""]

    def local(frame: FrameType, what: str, argument: Any) -> Any:
        if what == "line":
            last[0] = _place(frame.f_code.co_filename, frame.f_lineno)
        elif what == "return" and type(argument).__name__ == "NewEvent" and frame.f_code.co_name == "_event":
            made.append(_caller(frame))
        return local

    def enter(frame: FrameType, _what: str, _argument: Any) -> Any:
        return local if "mailcheck" in frame.f_code.co_filename else None

    sys.settrace(enter)
    try:
        decider.decide(state, command, context)
    finally:
        sys.settrace(None)
    return made[number] if number < len(made) else last[0]


def _caller(frame: FrameType) -> str:
    at: FrameType | None = frame
    while at is not None and at.f_code.co_name in _PLUMBING:
        at = at.f_back
    return "" if at is None else _place(at.f_code.co_filename, at.f_lineno)


class _Line(msgspec.Struct):
    position: int
    stream: str
    seq: int
    type: str
    ts_ms: int
    data: msgspec.Raw
    version: int = 1
    entity: str = ""
    principal: str = ""
    command_id: str = ""
    cause: int = 0
    build: str = ""


def _events(domain: Any, lines: Iterable[bytes]) -> Iterator[Any]:
    StoredEvent = domain.StoredEvent  # noqa: N806  a class

    decoder = msgspec.json.Decoder(_Line)
    for text in lines:
        line = decoder.decode(text)
        yield StoredEvent(
            position=line.position,
            stream=line.stream,
            seq=line.seq,
            type=line.type,
            body=bytes(line.data),
            version=line.version,
            ts_ms=line.ts_ms,
            entity=line.entity,
            principal=line.principal,
            command_id=line.command_id,
            cause=line.cause,
            build=line.build,
            chain=b"",
        )


def _load(name: str) -> ModuleType:
    """A module next to this file. The module path belongs to the version under test, so it is not used."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None, "the file lies there"
    assert spec.loader is not None, "it is a source file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _appends(events: Iterator[Any]) -> Iterator[list[Any]]:
    """Groups of neighbours that agree in all fields that one append gives to its events."""
    run: list[Any] = []
    for event in events:
        if run and _written_as(run[0]) != _written_as(event):
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _written_as(event: Any) -> tuple[Any, ...]:
    return event.ts_ms, event.principal, event.command_id, event.cause


def main() -> None:
    """See the module's docstring."""
    out = sys.stdout.buffer

    def emit(finding: dict[str, Any]) -> None:
        out.write(msgspec.json.encode(finding) + b"\n")

    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    judge = Judge(emit, set(asked.get("trace", ())))
    domain = _load("layouts").domain(sys.path)
    emit({"code": str(Path(domain.file).resolve())})
    forbid_effects()
    with Path(sys.argv[1]).open("rb") as lines:
        for append in _appends(_events(domain, lines)):
            judge.append(append)
    emit(dict(judge.tally))
    out.flush()


if __name__ == "__main__":
    main()
