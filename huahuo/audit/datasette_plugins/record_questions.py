"""A Datasette plugin: each request for audit data is recorded in the log before it is answered.

`huahuo audit serve` loads it (`--plugins-dir`). A request that cannot be recorded is not answered.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.utils.asgi import asgi_send_html

from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.audit.audited_log import record
from huahuo.audit.commands import DATA_VARIABLE
from huahuo.errors import HuahuoError

type App = Callable[[Any, Any, Any], Awaitable[None]]

_SHOWS_DATA = "/audit"
_QUESTION_CHARS_MAX = 4000


@hookimpl  # type: ignore[untyped-decorator]
def asgi_wrapper() -> Callable[[App], App]:
    """Wrap Datasette's application; see Datasette's plugin hooks."""
    data = os.environ.get(DATA_VARIABLE, "")

    def wrap(app: App) -> App:
        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            if data and scope["type"] == "http" and scope["path"].startswith(_SHOWS_DATA):
                question = scope["query_string"].decode("latin-1")[:_QUESTION_CHARS_MAX]
                settings = Table(standard()).load(environ=os.environ, file=None, flags={"data": Path(data)})
                try:
                    await record(settings, "audit serve", {"path": scope["path"], "question": question})
                except HuahuoError as error:
                    await asgi_send_html(send, f"not recorded, so not answered: {type(error).__name__}", 503)
                    return
            await app(scope, receive, send)

        return recorded

    return wrap
