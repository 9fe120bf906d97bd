"""The plug-in of the demo's nodes: administrators may kill, freeze and heal the demo's processes.

Nodes of the demo run as `huahuo serve --app huahuo.demo.faults:app`. No other service has these actions.
"""

import os
from typing import Final

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.app.application import Application, with_mail
from huahuo.demo.cluster import SOCKET, Fault, Processes, Wanted, ask
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh


class FaultsParams(msgspec.Struct, frozen=True):
    """A query without fields."""


class DoFault(msgspec.Struct, frozen=True):
    """Do this to that process of the demo."""

    name: str
    fault: Fault


async def _asked(wanted: Wanted) -> Processes | None:
    try:
        return await ask(os.environ.get(SOCKET, ""), wanted)
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None


async def _show(_call: Call[FaultsParams]) -> Reply:
    found = await _asked(Wanted())
    if found is None:
        return error_reply(Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN))
    return json_reply({"type": "processes", "data": found.facts})


async def _do(call: Call[DoFault]) -> Reply:
    found = await _asked(Wanted(call.params.name, call.params.fault))
    if found is None:
        return error_reply(Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN))
    if not found.known:
        return error_reply(Refusal(ErrorCode.NOT_FOUND, zh.NO_SUCH_NODE))
    return json_reply({"type": "success"})


class DemoFaults(Plugin):
    """See the module."""

    name = "demo"

    def bring(self, host: Host) -> Brought:
        """See `Plugin`."""
        del host
        return Brought(
            actions=[
                Action("get_processes", FaultsParams, _show, query=True, admin=True),
                Action("break_process", DoFault, _do, admin=True, frees=True),
            ]
        )


app: Final = Application(plugins=[*with_mail(), DemoFaults()])
