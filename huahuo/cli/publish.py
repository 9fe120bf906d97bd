"""The bodies of `huahuo publish` and `huahuo types`: what an application's programs need of huahuo.

`publish` sends one event, from a shell or a script, to a running service. `types` prints the
application's events, commands and states as a module of TypeScript.
"""

from collections.abc import Callable, Sequence
from typing import Any

from huahuo.actors.domain.client_types import client_types
from huahuo.actors.domain.structs import Refused
from huahuo.app import service_port
from huahuo.app.application import chosen
from huahuo.app.config import Settings
from huahuo.app.credentials import token_source
from huahuo.app.service_port import not_ready, way_on
from huahuo.at import At
from huahuo.errors import ConfigError, HuahuoError, Unknown
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import assigned
from huahuo.publisher import Publisher
from huahuo.terminal import printable
from huahuo.transport.protocol.codes import in_english


def publish(
    stream: str,
    type_: str,
    pairs: Sequence[str],
    *,
    url: str | None,
    token: str | None,
    own: Settings | None,
    command_id: str | None,
    timeout_s: float,
) -> At:
    """Publish one event, and return where it is. `own`: the settings of a directory, for its key and address.

    Raises:
        ConfigError: a field is not NAME=VALUE, or neither an address nor a directory was given.
        HuahuoError: the service refused, or did not answer in time.
        Unknown: it may have done it; with what its `/readyz` says, if that is not ready.
    """
    fields = fields_of(pairs)
    source: Callable[[], str] = token_source(token, own, SystemAmbient())
    address = url or _address(own)
    publisher = Publisher(address, source, timeout_s)
    try:
        return publisher.publish(stream, type_, fields, command_id=command_id)
    except Refused as error:
        why = in_english(error.code, error.message, error.details)
        hint = "" if own is None or token else way_on(address, error.code, own.data, SystemAmbient())
        raise HuahuoError(f"the service refused: {why}{f'. {hint}' if hint else ''}") from error
    except Unknown as error:
        reason = not_ready(address)
        raise Unknown(f"{error}; its /readyz says: {printable(reason)}" if reason else str(error)) from error
    finally:
        publisher.close()


def fields_of(pairs: Sequence[str]) -> dict[str, Any]:
    """The fields of `NAME=VALUE` and `NAME:=JSON` (`options.assigned`).

    Raises:
        ConfigError: one is not of that form, or its name is given twice.
    """
    fields: dict[str, Any] = {}
    for pair in pairs:
        try:
            name, value = assigned(pair)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if not name:
            raise ConfigError(f"{pair!r} is no field: write NAME=VALUE, for example order_id=7")
        if name in fields:
            raise ConfigError(f"{name}: given twice")
        fields[name] = value
    return fields


def _address(own: Settings | None) -> str:
    if own is None:
        raise ConfigError("give --url, or --data of a service that runs on this machine")
    service = service_port.read_address(own.data)
    if service is None:
        raise HuahuoError(
            f"no running service is known for {own.data} (there is no {service_port.SERVICE_FILE}): "
            f"start it by `huahuo serve --data {own.data}`, or give --url"
        )
    return service.url


def types() -> str:
    """The module for the application of `--app`.

    Raises:
        ConfigError: no application is named.
    """
    entities = chosen().entities
    lists = entities.lists.by_action or entities.live.by_name
    if len(entities.catalog.by_kind) == 1 and not lists:  # the kind `job` is always there
        raise ConfigError("name the application whose types you want: --app MODULE:NAME")
    return client_types(entities.catalog, entities.lists.by_action, entities.live.by_name)
