"""Writes what follows from the code: tables of the pages, words of the console, types of the browser client.

    python -m scripts.pages

A test fails while a file of `WRITTEN` is not what this prints. In a page it is between `<!-- NAME -->` and
`<!-- /NAME -->`.
"""

import json
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Meta

from huahuo import en as huahuo_en
from huahuo import zh as huahuo_zh
from huahuo.actors.plugins.words import texts_of
from huahuo.mailcheck import en as mail_en
from huahuo.mailcheck import zh as mail_zh
from huahuo.mailcheck.events import PUBLIC, type_name
from huahuo.mailcheck.servers.faults import KINDS as FAULTS
from huahuo.options import table as settings
from huahuo.transport.protocol import kinds
from huahuo.transport.protocol.kinds import KINDS, Kind, Moving, name_of
from huahuo.transport.session.delivery_states import START, TABLE, DeliveryState, Step
from huahuo.transport.words import en, zh

ROOT = Path(__file__).resolve().parent.parent
CATALOGUES = ((mail_zh, mail_en), (zh, en), (huahuo_zh, huahuo_en))
_HEAD = "/** {} Written by scripts/pages.py: do not edit. */\n\n"


def between(page: str, **texts: str) -> str:
    """`page` with each text at its place."""
    for name, text in texts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        head, rest = page.split(begin)
        page = head + begin + text + end + rest.split(end)[1]
    return page


def table(heads: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown. `heads`: with a `|` between two."""
    lines = [
        f"| {heads} |",
        "|" + "---|" * (heads.count("|") + 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join([*lines, ""])


def said(struct: type) -> str:
    """Its docstring in one line."""
    return " ".join((struct.__doc__ or "").split())


def settings_table() -> str:
    """One row for each setting."""
    known = settings()

    def shown(value: Any) -> str:
        value = ", ".join(value) if isinstance(value, tuple) else value
        return "–" if value in ("", {}) else str(int(value)) if isinstance(value, bool) else str(value)

    rows = (
        (f"`{known.variable(name)}`", shown(known.default(name)), known.meaning(name)) for name in known.names
    )
    return table("environment | default | meaning", rows)


def event_types() -> str:
    """The public event types: their fields (`?` where one may be absent)."""
    rows = []
    for body in PUBLIC:
        own = [field for field in msgspec.structs.fields(body) if field.name != "timestamp"]
        names = ", ".join(f"`{field.name}`" + ("" if field.required else "?") for field in own)
        rows.append((f"`{type_name(body)}`", names, said(body)))
    notice = "`message`, `level` (`info`, `warning`, `error`)"
    rows.append(("`system_notification`", notice, "A notice to every user."))
    return table("type | fields besides `type` and `timestamp` | what it says", rows)


def failures() -> str:
    """The kinds of failures of a check."""
    rows = (
        (
            f"`{kind.error_class}`",
            f"{kind.chinese}<br>{kind.english}",
            f"{kind.advice_chinese}<br>{kind.advice_english}",
            f"`{'need_reauth' if kind.must_sign_in else 'error'}`",
        )
        for kind in FAULTS.values()
    )
    return table("class | what happened | what to do next | ends as", rows)


def from_everywhere() -> dict[Step, DeliveryState]:
    """The steps that lead from every other state to the same one. They are told, not drawn."""
    found: dict[Step, DeliveryState] = {}
    for step in Step:
        begins = {state for state, taken in TABLE if taken is step}
        ends = {to for (_, taken), to in TABLE.items() if taken is step}
        if len(ends) == 1 and begins | ends == set(DeliveryState):
            (found[step],) = ends
    return found


def picture() -> str:
    """The steps to another state, in Mermaid."""
    arrows: dict[tuple[DeliveryState, DeliveryState], list[str]] = defaultdict(list)
    for (state, step), to in TABLE.items():
        if to is not state and step not in from_everywhere():
            arrows[state, to].append(step.name)
    lines = [f"  [*] --> {START.name}\n"]
    lines += [f"  {state.name} --> {to.name}: {', '.join(steps)}\n" for (state, to), steps in arrows.items()]
    told = [
        f"`{step.name}` leads from every other state to {to.name}" for step, to in from_everywhere().items()
    ]
    return f"```mermaid\nstateDiagram-v2\n{''.join(lines)}```\n\nNot drawn: {'; '.join(told)}.\n"


def states() -> str:
    """Each state with its meaning and the steps that it allows."""
    moves = defaultdict(list)
    for (begin, step), to in TABLE.items():
        moves[begin].append(f"`{step.name}` → {to.name}")
    rows = ((state.name, state.meaning, ", ".join(moves[state]) or "–") for state in DeliveryState)
    return table("state | meaning | steps", rows)


def delivery() -> str:
    """The states of a subscription: the picture, and both lists."""
    steps = table("step | what happened", ((f"`{step.name}`", step.meaning) for step in Step))
    return f"{picture()}\n{states()}\n{steps}"


def listed(values: Iterable[object]) -> str:
    """The rest of a TypeScript list."""
    return "".join(f"  {json.dumps(value, ensure_ascii=False)},\n" for value in values) + "];\n"


_FAILURE = """export interface Failure {
  readonly code: string;
  readonly class: "auth" | "network" | "tls" | "limit" | "provider_down" | "protocol" | "config";
  /** How the service words it; behind it may come ": " and what the mail server said. */
  readonly message: string;
  readonly zh: { readonly what: string; readonly advice: string };
  readonly en: { readonly what: string; readonly advice: string };
}

export const FAILURES: readonly Failure[] = [
"""


def failure_words() -> str:
    """What the console says of each kind of failure."""
    return (
        _HEAD.format("Every kind of failure of a check.")
        + _FAILURE
        + listed(
            {
                "code": code,
                "class": kind.error_class,
                "message": kind.message,
                "zh": {"what": kind.chinese, "advice": kind.advice_chinese},
                "en": {"what": kind.english, "advice": kind.advice_english},
            }
            for code, kind in FAULTS.items()
        )
    )


def catalogue() -> str:
    """What the service says in Chinese, and the same in English.

    Replies come in the reader's language by themselves. Events have one text for all readers, so the console
    says those in English by this list. Texts without a gap come first, since one with a gap may fit them too.
    """
    pairs = {
        text: texts_of(english)[name]
        for chinese, english in CATALOGUES
        for name, text in texts_of(chinese).items()
    }
    opens = "export const CATALOGUE: readonly (readonly [chinese: string, english: string])[] = [\n"
    lines = sorted(pairs.items(), key=lambda pair: "{}" in pair[0])
    return _HEAD.format("What the service says, in both languages.") + opens + listed(lines)


IN_SECTION_4 = (kinds.LiveFrame, kinds.SnapshotFrame, kinds.SkippedFrame, kinds.LagFrame)
IN_PARTS = ("part", "more")
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean"}
NESTED = {kinds.StreamPlace: "Place", kinds.DictionaryPlace: "DictionaryPlace"}
_IMPORTS = """\
import type { Outcome } from "../model/model.js";
import type { DictionaryPlace } from "./inflow.js";

"""


def frames() -> str:
    """The kinds of messages that section 4 of the protocol tells of."""
    rows = []
    for kind in IN_SECTION_4:
        members = [f'"type":"{name_of(kind)}"']
        for field in msgspec.structs.fields(kind):
            if field.name not in IN_PARTS:
                examples = _meta(field.type).examples or ()
                members.append(f'"{field.name}"' + "".join(f':"{example}"' for example in examples[:1]))
        rows.append((f"`{{{','.join(members)}}}`", said(kind)))
    return table("message | means", rows)


def browser_types() -> str:
    """The TypeScript of all kinds."""
    moving = [kind for kind in KINDS if issubclass(kind, Moving)]
    return (
        _HEAD.format("The kinds of messages that the server sends of itself.")
        + _IMPORTS
        + f"export interface Place {{\n{_members(kinds.StreamPlace, required=True)}}}\n\n"
        + "".join(
            f"/** {said(kind)} */\n"
            f'export interface {_named(kind)} {{\n  readonly type: "{name_of(kind)}";\n{_members(kind)}}}\n\n'
            for kind in KINDS
        )
        + f"export type Known = {''.join(f'\n  | {_named(kind)}' for kind in KINDS)};\n"
        + "/** Those that move a cursor. */\n"
        + f"export type Moving = {' | '.join(map(_named, moving))};\n\n"
        + f"export const KINDS: ReadonlySet<string> = new Set({_listed(KINDS)});\n"
        + f"export const MOVING: ReadonlySet<string> = new Set({_listed(moving)});\n"
    )


def reserved_names() -> str:
    """The Python of the names, for a floor that may not import them."""
    listed = "".join(f'        "{name}",\n' for name in sorted(map(name_of, KINDS)))
    return (
        '"""Types of the messages that the server sends of itself. Written by `scripts/pages.py`."""\n\n'
        f"from typing import Final\n\nWIRE_TYPES: Final = frozenset(\n    {{\n{listed}    }}\n)\n"
    )


def _named(kind: type[Kind]) -> str:
    return kind.__name__.removesuffix("Frame") + "Frame"


def _listed(some: typing.Sequence[type[Kind]]) -> str:
    return "[\n" + "".join(f'  "{name_of(kind)}",\n' for kind in some) + "]"


def _members(struct: type[msgspec.Struct], *, required: bool = False) -> str:
    lines = []
    for field in msgspec.structs.fields(struct):
        written, nullable = _written(field.type)
        maybe = not required and (nullable or bool((_meta(field.type).extra or {}).get("maybe")))
        lines.append(f"  readonly {field.name}{'?' if maybe else ''}: {written};\n")
    return "".join(lines)


def _meta(annotation: Any) -> Meta:
    annotation = getattr(annotation, "__value__", annotation)
    found = [one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Meta)]
    return found[0] if found else Meta()


def _written(annotation: Any) -> tuple[str, bool]:
    """The type in TypeScript, and whether it may be null."""
    browser = (_meta(annotation).extra or {}).get("browser")
    if browser:
        return str(browser), False
    if typing.get_origin(annotation) is typing.Annotated:
        return _written(typing.get_args(annotation)[0])
    if annotation is Any:
        return "unknown", False
    args = typing.get_args(annotation)
    match typing.get_origin(annotation):
        case types.UnionType:
            return " | ".join([_written(one)[0] for one in args if one is not type(None)] + ["null"]), True
        case origin if origin is dict:
            return f"Record<string, {_written(args[1])[0]}>", False
        case origin if origin is list:
            return f"{_written(args[0])[0]}[]", False
        case origin if origin is tuple:
            return f"[{', '.join(_written(one)[0] for one in args)}]", False
    return PLAIN.get(annotation) or NESTED[annotation], False


WRITTEN: Final[Mapping[str, Callable[[str], str]]] = {
    "docs/settings.md": lambda page: between(page, settings=settings_table()),
    "docs/protocol.md": lambda page: between(page, events=event_types(), kinds=frames()),
    "docs/mail.md": lambda page: between(page, kinds=failures()),
    "docs/delivery.md": lambda page: between(page, delivery=delivery()),
    "web/console/src/words/failures.ts": lambda _: failure_words(),
    "web/console/src/words/catalogue.ts": lambda _: catalogue(),
    "web/client/src/wire/kinds.ts": lambda _: browser_types(),
    "actors/domain/wire_types.py": lambda _: reserved_names(),
}
"""What each file is, by what it was."""


if __name__ == "__main__":
    for name, written in WRITTEN.items():
        path = ROOT / name
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
