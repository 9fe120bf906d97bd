"""What may become of a request to another node."""

from huahuo.errors import HuahuoError

WRONG_KEY = "wrong_key"
STALE = "stale"
OTHER_LIFE = "other_life"
NOT_FOUND = "not_found"
BUSY = "busy"
UNAVAILABLE = "unavailable"
FAILED = "failed"


class NodeError(HuahuoError):
    """Another node gave no usable answer. `node`: its name, or its URL while that is all that is known."""

    def __init__(self, node: str, text: str) -> None:
        super().__init__(f"the node {node} {text}")
        self.node = node


class NodeSilent(NodeError):  # noqa: N818  the condition is the name
    """No answer: it may have done what it was asked for, or not."""


class NodeBegins(NodeSilent):
    """It has not said yet where it listens, since it starts."""

    def __init__(self, node: str) -> None:
        super().__init__(node, "has not said where it is")


class NodeRefused(NodeError):  # noqa: N818  the condition is the name
    """It said no. `code`: `wrong_key`, `not_found` (also: an older version), `busy`, or the request's own.

    `now_ms`: what its clock shows, if that is why it said no; 0 if it did not tell.
    """

    def __init__(self, node: str, code: str, detail: str, now_ms: int = 0) -> None:
        super().__init__(node, f"refused: {detail}")
        self.code = code
        self.detail = detail
        self.now_ms = now_ms


class Refused(Exception):  # noqa: N818  it is told to the node that asks
    """A handler's refusal: the asking node gets it as `NodeRefused` with this code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
