"""`GET /who`: whom the service takes the bearer of this token for.

A token of an application's own `authenticate`, an API key, or an issuer's token with renamed claims does not
tell its bearer which user it names. A client without a WebSocket, and tabs that share one, must know.
"""

import msgspec

from huahuo.actors.plugins.principal import Principal
from huahuo.transport.access.rights import ADMIN, CODES
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import Answer, json_answer
from huahuo.transport.http.problems import problem
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.outgoing import shown_user, timestamp
from huahuo.transport.words import http_zh


def who(visit: Visit, wires: Wires) -> Answer:
    """The user as `authentication_result` has it, with the members of the same names."""
    if not _may_connect(visit.principal):
        return problem(ErrorCode.FORBIDDEN, http_zh.KEY_CANNOT_CONNECT)
    said = {
        "type": "who",
        "user": shown_user(visit.verified),
        "expires_at": timestamp(visit.verified.expires_at_ms),
        "log": wires.shared.log.log_id,
        "heartbeat_s": wires.shared.settings.heartbeat_s,
    }
    return json_answer(msgspec.json.encode(said))


def _may_connect(principal: Principal) -> bool:
    """Whether a connection is of any use: its user may read, write, or call at least one action."""
    return principal.rights is None or not {CODES, ADMIN}.issuperset(principal.rights)
