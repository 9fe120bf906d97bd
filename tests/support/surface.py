"""What users see, as sorted lines: the names of Python, the command line, HTTP, the wire, metrics, promises.

    python -m tests.support.surface     writes the files anew

`tests/architecture/surface` holds the lines, so that a diff shows each loss and gain of a user. What a test
compares with a page already has no file there: settings (docs/settings.md), messages of servers (`kinds.ts`),
close and error codes (`codes.ts`), events (docs/protocol.md).
"""

import inspect
import re
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec
import structlog
import typer
from typer.core import TyperGroup

from huahuo import Service
from huahuo.cli.main import app
from huahuo.mailcheck import mail
from huahuo.transport.protocol import incoming
from tests.support.servers.nats import nats_servers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "architecture" / "surface"
PACKAGES = ("huahuo", "huahuo.testing", "huahuo.transport.client")
METHODS = ("delete", "get", "post", "put", "head", "patch")
MESSAGES = (incoming.Authenticate, incoming.Resume, incoming.Subscribe, incoming.Unsubscribe, incoming.Acks)


class _Default:
    def __repr__(self) -> str:
        return "…"


def python() -> Iterator[str]:
    """Each exported name with its parameters, and of a class what it offers."""
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            yield f"{package}.{name}{_parameters(value)}"
            if isinstance(value, type):
                yield from (f"{package}.{name}.{member}" for member in _members(value))


def _parameters(value: Any) -> str:
    value = getattr(value, "__func__", value)  # of a static method or a class method
    if not isinstance(value, type | FunctionType):
        return ""
    try:
        signature = inspect.signature(value)
    except ValueError:
        return ""
    plain = [
        one.replace(
            annotation=one.empty,
            default=_Default()
            if one.default is not one.empty and not isinstance(one.default, str | int | float | None)
            else one.default,
        )
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def _members(owner: type) -> Iterator[str]:
    ours = [base for base in owner.__mro__ if base.__module__.startswith("huahuo")]
    shown = {name for base in ours for name in vars(base) if not name.startswith("_")}
    for name in sorted(shown - {*getattr(owner, "__struct_fields__", ())}):
        yield name + _parameters(inspect.getattr_static(owner, name))


def commands() -> Iterator[str]:
    """Each command with the names of its arguments and options."""
    return _commands("huahuo", typer.main.get_command(app))


def _commands(path: str, command: Any) -> Iterator[str]:
    words = [
        "/".join([*one.opts, *one.secondary_opts]) if one.param_type_name == "option" else one.name.upper()
        for one in command.params
        if "--app" not in one.opts  # each command has it
    ]
    yield " ".join([path, *words])
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _commands(f"{path} {name}", command.get_command(context, name))


@cache
def _served() -> tuple[dict[str, Any], str]:
    """The OpenAPI document and the metrics of a node with mail and workers: it has all that there are."""
    with (
        nats_servers() as servers,
        tempfile.TemporaryDirectory() as data,
        Service(
            data, environ={}, plugins=[mail()], port=0, workers=2, log=servers.url, node="a",
            log_level="error", jwt_secret="a secret of at least thirty-two bytes", master_key="5a" * 32,
        ) as service,
    ):  # fmt: skip
        pages = [urllib.request.urlopen(service.url + path) for path in ("/openapi.json", "/metrics")]
        document, metrics = [page.read() for page in pages]
    structlog.reset_defaults()
    return msgspec.json.decode(document), metrics.decode()


def http() -> Iterator[str]:
    """Each path with its method, parameters, fields of the body, statuses."""
    document, _ = _served()
    schemas = document["components"]["schemas"]
    yield f"Problem: {', '.join(_fields(schemas['Problem'], schemas))}"
    for path, entry in document["paths"].items():
        for method in METHODS & entry.keys():
            operation = entry[method]
            given = sorted(one["name"] for one in operation.get("parameters", ()))
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            fields = _fields(body.get("schema", {}), schemas)
            statuses = sorted(operation["responses"])
            yield f"{method.upper()} {path} ({', '.join(given)}) {{{', '.join(fields)}}} {' '.join(statuses)}"


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    schema = schema["oneOf"][0] if "oneOf" in schema else schema
    needed = schema.get("required", ())
    return sorted(f"{name}{'' if name in needed else '?'}" for name in schema.get("properties", ()))


def metrics() -> Iterator[str]:
    """The name and kind of each."""
    return iter(re.findall(r"^# TYPE (\w+ \w+)$", _served()[1], re.MULTILINE))


def messages() -> Iterator[str]:
    """Each message of a client and its fields; commands are in `http`."""
    for struct in MESSAGES:
        fields = msgspec.structs.fields(struct)
        named = [f"{field.encode_name}{'' if field.required else '?'}" for field in fields]
        yield f"{struct.__name__.lower()}: {', '.join(sorted(named))}"


def limits() -> Iterator[str]:
    """Each queue and cache with its bounds."""
    for row in _rows("docs/limits.md"):
        name, _, user, process, *_ = row
        yield f"{name}: {user}; {process}"


def security() -> Iterator[str]:
    """Who must not do what, the promises, the items of the checklist."""
    for row in _rows("SECURITY.md"):
        yield "; ".join(row[:2] if "`test_" in row[2] else row)
    promises = (ROOT / "SECURITY.md").read_text("utf-8").partition("## Promises")[2].partition("\n## ")[0]
    yield from re.findall(r"^\* (.*)$", promises, re.MULTILINE)


def _rows(page: str) -> Iterator[list[str]]:
    for line in (ROOT / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[1] not in {"may do", "grows by", "risk"}:
            yield cells


SURFACES: dict[str, Callable[[], Iterator[str]]] = {
    made.__name__: made for made in (python, commands, http, metrics, messages, limits, security)
}


def lines(surface: str) -> list[str]:
    """What users see today."""
    return sorted(SURFACES[surface]())


def stored(surface: str) -> list[str]:
    """What users saw when the file was written."""
    return (FOLDER / f"{surface}.txt").read_text("utf-8").splitlines()


if __name__ == "__main__":
    for one in SURFACES:
        (FOLDER / f"{one}.txt").write_text("\n".join(lines(one)) + "\n", "utf-8")
