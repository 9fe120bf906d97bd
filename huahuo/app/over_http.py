"""What the service shows over HTTP, put together: its pages, the description of its API, and the API."""

from pathlib import Path

import msgspec

from huahuo.actors.plugins.actions import Registry
from huahuo.app import metrics_of
from huahuo.app.config import Settings
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.pages import site
from huahuo.pages.classic import classic
from huahuo.transport.accounts.application import AskRights
from huahuo.transport.durable_streams.reader import DurableStreams
from huahuo.transport.http import openapi
from huahuo.transport.http.api import Api
from huahuo.transport.http.signing_in import SignIn
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.server import Server
from huahuo.transport.server.site import Asset, Site


def pages_of(
    settings: Settings,
    log: Log,
    ambient: Ambient,
    metrics: Metrics,
    registry: Registry,
    more: dict[str, Asset],
) -> Site:
    """The files for browsers: the console, or at its place a front end that the user has."""
    shown, elsewhere = site.assets(), None
    if settings.classic_ui:
        try:
            theirs, elsewhere = classic(Path(settings.classic_ui))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        shown = theirs | site.assets(site.CONSOLE)
    shown = shown | more | _described(registry, settings)
    per_s = settings.http_requests_per_s
    return Site(log, ambient, metrics, shown, requests_per_s=per_s, elsewhere=elsewhere)


def _described(registry: Registry, settings: Settings) -> dict[str, Asset]:
    """The API over HTTP as a document, for programs that make clients of it."""
    durable = settings.durable_streams != "off"
    made = openapi.document(BUILD, registry.commands, registry.routes.values(), durable=durable)
    return {"/openapi.json": Asset.of("application/json", msgspec.json.encode(made), any_origin=True)}


def api_of(
    settings: Settings,
    server: Server,
    pages: Site,
    log: Log,
    hub: Hub,
    metrics: Metrics,
    sign_in: SignIn,
    registry: Registry,
    rights: AskRights | None,
) -> Api:
    """The API over HTTP."""
    api = Api(
        server,
        pages,
        log=log,
        acked=hub.acked,
        limit=pages.limit,
        requests_per_user=settings.http_calls_per_s,
        shared_caches=settings.http_shared_cache,
        sign_in=sign_in,
        routes=registry.routes.values(),
        page_at_login=bool(settings.classic_ui),
    )
    if settings.durable_streams != "off":
        streams = DurableStreams(
            server.wires,
            log,
            api.arrivals,
            is_open=settings.durable_streams == "open",
            forced=settings.durable_streams_forced,
            shared=settings.http_shared_cache,
            may=None if rights is None else rights.may,
        )
        api.serve_durable_streams(streams)
    metrics_of.http(metrics, api)
    return api
