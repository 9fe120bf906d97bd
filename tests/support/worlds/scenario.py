"""A test that is played in a world: the world makes what its positional parameters are, pytest the others."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any


def scenario(
    world: Callable[..., Any], *given: Any, **more: Any
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """The decorated coroutine function is the first argument of `world`. `given`, `more`: the others.

    Its parameters behind a `*` are those of pytest: fixtures and what is parametrised.
    """

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            world(functools.partial(test, **fixtures), *given, **more)

        ours = inspect.signature(test).parameters.values()
        run.__signature__ = inspect.Signature([one for one in ours if one.kind is one.KEYWORD_ONLY])  # type: ignore[attr-defined]
        return run

    return decorate
