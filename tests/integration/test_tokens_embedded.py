"""Tokens that the program of a running service makes."""

import time
from pathlib import Path

from huahuo import Huahuo, Service
from huahuo.app.wiring import App
from huahuo.transport.access.rights import AuthFailure, Verified
from tests.support.models.forged import revocation

AHEAD_MS = 3_000
"""Less than what a token may be ahead."""


def revoked_ahead(app: App | None) -> App:
    """The user 42 is revoked, by a clock that is ahead of this one."""
    assert app is not None
    ahead_ms = round(time.time() * 1000) + AHEAD_MS
    app.login.authenticator.revocations.apply(revocation({"user_id": 42}, ahead_ms))
    return app


def judged(app: App, token: str) -> Verified | AuthFailure:
    return app.login.authenticator.verify(token, round(time.time() * 1000))


async def test_a_token_of_an_application_is_newer_than_the_revocation_before_it(tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        running = revoked_ahead(app.app)
        assert isinstance(judged(running, app.token(42)), Verified)


def test_a_token_of_a_service_on_a_thread_is_newer_than_the_revocation_before_it(tmp_path: Path) -> None:
    with Service(data=tmp_path / "data", port=0, plugins=[]) as service:
        running = revoked_ahead(service._thread.app)  # noqa: SLF001  it is not for its callers
        assert isinstance(judged(running, service.token(42, "alice")), Verified)
