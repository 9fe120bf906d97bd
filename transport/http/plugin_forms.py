"""What a request and a refusal look like to a plug-in that has a route of its own. Pure."""

from collections import Counter
from typing import Final

import msgspec

from huahuo.actors.plugins.http import HttpRequest
from huahuo.transport.http.messages import JSON, Answer, Request
from huahuo.transport.http.problems import worded
from huahuo.transport.http.routes import Route
from huahuo.transport.protocol.problem import PROBLEM
from huahuo.transport.session.speech import Speech

_PROBLEM: Final = ("Content-Type", PROBLEM)


def asked_of(request: Request, route: Route, address: str) -> HttpRequest:
    """A request as plug-ins get it, without its body and its user."""
    often = Counter(name for name, _ in request.headers)
    once = {name: value.strip() for name, value in request.headers if often[name] == 1}
    return HttpRequest(
        method=request.method, path=request.path, names=route.names, query=request.query, headers=once,
        address=address,
    )  # fmt: skip


def told(route: Route, answer: Answer, speech: Speech) -> Answer:
    """A refusal in the words of the plug-in whose route it is; any other answer as it is.

    The plug-in is given the text in the client's language.
    """
    if route.plugin is None or route.plugin.refuse is None or not answer.is_refusal:
        return answer
    said = route.plugin.refuse(msgspec.json.decode(worded(answer, speech).body))
    headers = tuple(("Content-Type", JSON) if header == _PROBLEM else header for header in answer.headers)
    body = msgspec.json.encode(said)
    return msgspec.structs.replace(answer, headers=headers, body=body, is_refusal=False)
