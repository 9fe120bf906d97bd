"""What a failure means for the user: must they act, or does a later try help? Pure."""

from typing import Literal

import msgspec

type FailedStatus = Literal["error", "need_reauth"]


class Outcome(msgspec.Struct, frozen=True):
    """A classified failure.

    `status` is the terminal status of the check, `kind` a stable word for logs and metrics, `message`
    what the user reads, `server_text` the server's own words (sanitised; "" for none), for the
    owner's record only. `retry`: trying again later, unchanged, may help.
    """

    status: FailedStatus
    kind: str
    message: str
    server_text: str = ""
    retry: bool = False
