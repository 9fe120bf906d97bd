"""Routes of plug-ins as declarations: what is refused at the start, and which paths match."""

import pytest

from huahuo.actors.plugins.actions import HttpAnswer, HttpRequest, HttpRoute, Registry


async def handler(_request: HttpRequest) -> HttpAnswer:
    return HttpAnswer()


def route(path: str, method: str = "GET") -> HttpRoute:
    return HttpRoute(method=method, path=path, handler=handler)


@pytest.mark.parametrize(
    "path", ["/", "things", "/{all}", "/things/", "/things/{Name}", "/a b", "/things/{n:text}"]
)
def test_a_path_that_cannot_be_a_route_is_named(path: str) -> None:
    with pytest.raises(ValueError, match="the path must be like"):
        route(path)


def test_a_method_that_no_route_has_is_named() -> None:
    with pytest.raises(ValueError, match="the method must be one of"):
        route("/things", "HEAD")


def test_two_routes_for_the_same_requests_are_an_error() -> None:
    registry = Registry()
    registry.route(route("/things/{name}"))
    registry.route(route("/things/{name:int}"))
    registry.route(route("/things/{name}", "POST"))
    with pytest.raises(ValueError, match=r"GET /things/\{other\} is registered already"):
        registry.route(route("/things/{other}"))
