"""The client of the standard library, which lets go of its socket at the end of `with` in any case."""

import contextlib
import imaplib
from types import TracebackType


class ImapClient(imaplib.IMAP4):
    """See the module. imaplib's own `with` leaves the socket open if the server does not answer LOGOUT."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            with contextlib.suppress(OSError):  # it has been shut down
                self.shutdown()
