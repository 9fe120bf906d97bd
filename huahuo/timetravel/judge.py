"""Runs the folds and deciders of *any* version of this project on recorded events. A separate program.

    PYTHONPATH=/path/of/that/version python -P judge.py GUIDE EVENTS < asked > findings

`huahuo replay check` and `bisect` run it once per version and plug-in, and compare its output. GUIDE is a
file of the plug-in (`Past.guides`): it finds the folds, deciders and commands of that version, and derives
commands from events. The judge has no effects: an audit hook refuses sockets, processes and writing to files.

EVENTS holds lines of an export (`huahuo.replay.history.detached_history.Line`) without its header. `asked` is
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import msgspec

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

    def __init__(
        self, guide: ModuleType, domain: Any, emit: Callable[[dict[str, Any]], None], trace: set[int]
    ) -> None:
        self._guide = guide
        self._domain = domain
        self._deciders: Mapping[str, Any] = guide.deciders(domain)
        self._lines = Lines(guide)
        self._states: dict[str, Any] = {}
        self._heads: dict[str, int] = {}
        self._emit = emit
        self._trace = trace
        self.tally: Counter[str] = Counter()

    def append(self, events: list[Any]) -> None:
        """Take the events of what seems to be one append: repeat its decision, then fold its events."""
        rest = events
        while rest:
            derived = self._guide.derive(self._domain, rest)
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
        context = self._domain.Context(
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
            self._emit(finding | self._lines.raised(error))
            return
        decided = self._said(decision.events)
        was = self._said(recorded)
        if decided == was:
            return
        number = next((n for n, (a, b) in enumerate(zip(was, decided, strict=False)) if a != b), len(decided))
        line = self._lines.maker(decider, state, derived.command, context, number)
        self._emit(finding | {"recorded": was, "decided": decided, "at": number, "line": line})

    def _said(self, events: Iterable[Any]) -> list[Any]:
        """Events for comparison, without those of which the guide says nothing."""
        said = (self._guide.said(event.stream, event.type, event.body) for event in events)
        return [one for one in said if one is not None]

    def _take(self, event: Any) -> None:
        self._heads[event.stream] = event.seq
        kind = event.stream.partition("/")[0]
        decider = self._deciders.get(kind)
        if decider is None or not self._guide.folded(event.stream):
            return
        state = self._state(event.stream)
        finding = {"position": event.position, "entity": event.entity or event.stream, "stream": event.stream}
        try:
            if event.position in self._trace:
                line = self._lines.changer(decider, state, event)
                finding["line"] = line
            else:
                state = decider.evolve(state, event)
            self._states[event.stream] = state
        except Exception as error:  # noqa: BLE001
            self._emit(finding | self._lines.raised(error))
            return
        self._emit(finding | {"shown": self._guide.shown(state, event)})

    def _state(self, stream: str) -> Any:
        state = self._states.get(stream)
        if state is None:
            state = self._states[stream] = self._deciders[stream.partition("/")[0]].initial(stream)
        return state


class Lines:
    """Names the lines of the plug-in's code that made something."""

    def __init__(self, guide: ModuleType) -> None:
        self._package: str = guide.PACKAGE
        self._plumbing: set[str] = guide.PLUMBING
        self._storing: set[str] = guide.STORING
        self._shown = guide.shown

    def raised(self, error: BaseException) -> dict[str, Any]:
        """An exception with the last line of the plug-in in its traceback."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if self._package in frame.filename] or list(frames)
        return {"error": type(error).__name__, "line": self._place(ours[-1].filename, ours[-1].lineno or 0)}

    def changer(self, decider: Any, state: Any, event: Any) -> str:
        """Fold `event`, and trace the last line that changed the shown state."""
        seen = {"shown": self._shown(state, event), "line": "", "at": ""}

        def look(now: str) -> None:
            shown = self._shown(state, event)
            if shown != seen["shown"]:
                seen["shown"], seen["line"] = shown, seen["at"]
            seen["at"] = now

        def local(frame: FrameType, what: str, _argument: Any) -> Any:
            if what == "line":
                look(self._place(frame.f_code.co_filename, frame.f_lineno))
            return local

        def enter(frame: FrameType, _what: str, _argument: Any) -> Any:
            code = frame.f_code
            ours = self._package in code.co_filename and code.co_name not in self._storing
            return local if ours else None

        sys.settrace(enter)
        try:
            decider.evolve(state, event)
        finally:
            sys.settrace(None)
        look("")
        return str(seen["line"] or seen["at"])

    def maker(self, decider: Any, state: Any, command: Any, context: Any, number: int) -> str:
        """The line that makes event `number` of the decision, or that ends the decision without it."""
        made: list[str] = []
        last = [""]

        def local(frame: FrameType, what: str, argument: Any) -> Any:
            code = frame.f_code
            if what == "line":
                last[0] = self._place(code.co_filename, frame.f_lineno)
            elif what == "return" and type(argument).__name__ == "NewEvent" and code.co_name == "_event":
                made.append(self._caller(frame))
            return local

        def enter(frame: FrameType, _what: str, _argument: Any) -> Any:
            return local if self._package in frame.f_code.co_filename else None

        sys.settrace(enter)
        try:
            decider.decide(state, command, context)
        finally:
            sys.settrace(None)
        return made[number] if number < len(made) else last[0]

    def _place(self, file: str, line: int) -> str:
        """`mailcheck/mailbox/state.py:77`, independent of the version's directory."""
        parts = Path(file).parts
        package = self._package
        start = len(parts) - 1 - parts[::-1].index(package) if package in parts else -2
        return f"{'/'.join(parts[start:])}:{line}"

    def _caller(self, frame: FrameType) -> str:
        at: FrameType | None = frame
        while at is not None and at.f_code.co_name in self._plumbing:
            at = at.f_back
        return "" if at is None else self._place(at.f_code.co_filename, at.f_lineno)


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


def _loaded(file: str) -> ModuleType:
    """The module in a file. The module path belongs to the version under test, so it is not used."""
    spec = importlib.util.spec_from_file_location("guide", file)
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
    guide = _loaded(sys.argv[1])
    domain = guide.domain(sys.path)
    judge = Judge(guide, domain, emit, set(asked.get("trace", ())))
    emit({"code": str(Path(domain.file).resolve())})
    forbid_effects()
    with Path(sys.argv[2]).open("rb") as lines:
        for append in _appends(_events(domain, lines)):
            judge.append(append)
    emit(dict(judge.tally))
    out.flush()


if __name__ == "__main__":
    main()
