"""The module that tells the browser client of an application's events, commands and states. Pure.

It is made of the classes with which the service itself reads messages, so a field that is renamed there is an
error in the page's next build.
"""

import typing
from collections.abc import Iterable, Mapping
from textwrap import indent
from typing import Any, Final

from huahuo.actors.domain import jobs
from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.handlers import Handler
from huahuo.actors.domain.lists import ListQuery
from huahuo.actors.domain.structs import traits
from huahuo.actors.domain.typescript import Types, key

_HEAD: Final = """\
// Made by `huahuo types`. Do not change it: run the command again.
import type {} from "huahuo-client";
"""
_OTHERS: Final = "Readonly<Record<string, unknown>>"


def client_types(catalog: Catalog, lists: Mapping[str, ListQuery]) -> str:
    """The text of a module of TypeScript. The client knows jobs already."""
    entities = [entity for kind, entity in catalog.by_kind.items() if kind != jobs.KIND]
    told, sent = Types(sent=False), Types(sent=True)
    events = {
        traits(cls).name: told.inline(cls, without=("type",))
        for entity in entities
        for cls in (*entity.evolves, *(entity.events or ()))
    }
    states = {entity.kind: told.of(entity.state) for entity in entities}
    commands: dict[str, str] = {}
    for entity in entities:
        commands |= _commands(entity, sent) | _queries(entity, told, sent)
    commands |= {action: _list(one, sent) for action, one in lists.items()}
    about = "The state of each kind, as the snapshots of its streams have it."
    return "\n".join(
        [
            _HEAD,
            *_interfaces(told, sent),
            f"/** {about} */\nexport {_table('States', states)}\n",
            'declare module "huahuo-client" {',
            indent(f"{_table('EventTypes', events)}\n{_table('Commands', commands)}", "  "),
            "}",
        ]
    )


def _commands(entity: Entity[Any], sent: Types) -> dict[str, str]:
    """The commands that clients may send. A new entity with an id from the log has none yet."""
    found: dict[str, str] = {}
    for cls in entity.decides:
        said = traits(cls)
        if not said.action:
            continue
        makes = entity.key is int and creates(entity, cls)
        fields = sent.inline(cls, *([] if makes else [_id(entity)]))
        found[said.action] = _command(fields, f"{{ {_id(entity)} }} & {_OTHERS}")
    return found


def _queries(entity: Entity[Any], told: Types, sent: Types) -> dict[str, str]:
    return {
        action: _command(
            f"{{ {_id(entity)} }}" if one.fields is None else sent.inline(one.fields, _id(entity)),
            f"{{ data: {_returned(one.answer, told)}; stream: string; seq: number }}",
        )
        for action, one in entity.queries.items()
    }


def _list(one: ListQuery, sent: Types) -> str:
    reply = "{ data: readonly unknown[]; next: string | null; position: number }"
    return _command(sent.inline(one.params), reply)


def _command(fields: str, reply: str) -> str:
    return f"{{\n  fields: {indent(fields, '  ').lstrip()};\n  reply: {reply};\n}}"


def _id(entity: Entity[Any]) -> str:
    return f"{entity.kind}_id: {'number' if entity.key is int else 'string'}"


def _returned(answer: Handler, told: Types) -> str:
    try:
        hints = typing.get_type_hints(answer)
    except Exception:  # noqa: BLE001  whatever an annotation raises that cannot be resolved
        return "unknown"
    return told.of(hints["return"]) if "return" in hints else "unknown"


def _interfaces(told: Types, sent: Types) -> Iterable[str]:
    for name, text in (told.declared | sent.declared).items():
        yield f"export type {name} = {text};\n"


def _table(name: str, rows: Mapping[str, str]) -> str:
    body = "".join(f"{key(row)}: {text};\n" for row, text in sorted(rows.items()))
    return f"interface {name} {{\n{indent(body, '  ')}}}"
