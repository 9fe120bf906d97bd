"""The OpenAPI document: each path and body of it is served, and nothing served is missing."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from huahuo.actors.plugins.actions import Action, HttpAnswer, HttpRequest, HttpRoute
from huahuo.actors.plugins.calls import Call, Principal, Reply
from huahuo.transport.http import routes
from huahuo.transport.http.routes import BELOW, EXACT
from tests.support.drivers.http import client
from tests.support.worlds.wire import World, world

ADMIN = Principal(1, "root", is_admin=True)


async def none(_call: Call[Any]) -> Reply:
    return Reply(b"{}")


async def answer(_request: HttpRequest) -> HttpAnswer:
    return HttpAnswer.json({})


ROUTES = [
    HttpRoute(method="GET", path="/parcels/{number:int}", handler=answer),
    HttpRoute(method="POST", path="/parcels", handler=answer, body_bytes_max=100, access="anyone"),
    HttpRoute(method="DELETE", path="/parcels/{number:int}", handler=answer, access="admin"),
]


def described(w: World) -> dict[str, Any]:
    made = routes.openapi_document("1", w.registry.commands, ROUTES, durable=True)
    return msgspec.json.decode(msgspec.json.encode(made), type=dict[str, Any])


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, entry in document["paths"].items():
        for method, operation in entry.items():
            if method != "parameters":
                yield path, method.upper(), operation


def filled(path: str) -> str:
    return path.replace("{stream}", "user/42").replace("{path}", "user/42/a").replace("{number}", "7")


async def test_every_operation_is_served_and_every_other_method_is_refused() -> None:
    async with world(routes=ROUTES) as w, client(f"http://127.0.0.1:{w.port}", w.token(ADMIN)) as http:
        document = described(w)
        known: dict[str, set[str]] = {}
        for path, method, _ in operations(document):
            known.setdefault(path, set()).add(method)
            said = await http.request(method, filled(path), headers={"Content-Type": "application/json"})
            assert said.status_code not in {404, 405} or is_of_the_handler(said), (
                method,
                path,
                said.text,
            )
        for path, methods in known.items():
            for method in {"GET", "POST", "PUT", "DELETE"} - methods:
                refused = await http.request(method, filled(path))
                assert refused.status_code == 405, (method, path)


def is_of_the_handler(said: httpx.Response) -> bool:
    """A 404 about what was asked for, not about the path."""
    return said.status_code == 404 and said.headers["content-type"] == "application/problem+json"


async def test_every_route_and_every_action_is_described_once() -> None:
    async with world(routes=ROUTES) as w:
        document = described(w)
        paths = set(document["paths"])
        assert set(EXACT) <= paths
        assert {f"/commands/{name}" for name in w.registry.commands} <= paths
        assert all(any(path.startswith(beginning) for path in paths) for beginning in BELOW)
        ids = [operation["operationId"] for _, _, operation in operations(document)]
        assert len(ids) == len(set(ids))


async def test_every_reference_leads_somewhere_and_every_name_in_a_path_is_a_parameter() -> None:
    async with world(routes=ROUTES) as w:
        document = described(w)
        for reference in references(document):
            place: Any = document
            for part in reference.removeprefix("#/").split("/"):
                place = place[part]
        for path, _, operation in operations(document):
            given = [*document["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
            named = {one["name"] for one in given if one["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_two_actions_whose_structs_have_one_name_are_both_described() -> None:
    def named(kind: type) -> type[msgspec.Struct]:
        return msgspec.defstruct("Cancel", [("wanted", kind)])

    actions = {name: Action(name, named(kind), none) for name, kind in (("a", int), ("b", str))}
    document = msgspec.json.decode(
        msgspec.json.encode(routes.openapi_document("1", actions, (), durable=True))
    )
    kinds = []
    for name in actions:
        body = document["paths"][f"/commands/{name}"]["post"]["requestBody"]
        reference = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        kinds.append(document["components"]["schemas"][reference]["properties"]["wanted"]["type"])
    assert kinds == ["integer", "string"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


async def test_an_answer_has_what_the_document_requires() -> None:
    async with world(routes=ROUTES) as w, client(f"http://127.0.0.1:{w.port}", w.token(ADMIN)) as http:
        document = described(w)
        await w.append("user/42", "a")
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/streams/{stream}", {}),
            ("POST", "/ticket", {}),
            ("POST", "/commands/echo", {"json": {"text": "a"}}),
            ("GET", "/seen", {"params": {"stream": "user/42", "seq": 1, "client": "c"}}),
        ]
        for method, path, fields in asked:
            said = await http.request(method, filled(path), **fields)
            made = document["paths"][path][method.lower()]["responses"][str(said.status_code)]
            schema = made["content"]["application/json"]["schema"]
            assert set(schema["required"]) <= set(said.json()), path
        refused = await http.get("/streams/user/42", params={"limit": "x"})
        problem = document["components"]["schemas"]["Problem"]
        assert set(problem["required"]) <= set(refused.json())


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_switched_off_is_not_described(*, durable: bool) -> None:
    made = routes.openapi_document("1", {}, (), durable=durable)
    assert ("/ds/{path}" in made["paths"]) == durable
