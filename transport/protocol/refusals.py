"""What a refusal of the service means, in English, for exceptions and the command line. Pure."""

from typing import Final

from huahuo.transport.protocol.codes import ErrorCode

SENTENCES: Final[dict[str, str]] = {
    ErrorCode.BAD_MESSAGE: "the service could not read the message",
    ErrorCode.UNKNOWN_ACTION: "the service does not know this action; is it an older version?",
    ErrorCode.UNAUTHENTICATED: "the service wants a token first",
    ErrorCode.FORBIDDEN: "this token may not do that",
    ErrorCode.NOT_FOUND: "there is no such thing",
    ErrorCode.ALREADY_EXISTS: "it is there already",
    ErrorCode.INVALID_FIELD: "a field is not valid",
    ErrorCode.BUSY: "the service is busy, and nothing was done: try again",
    ErrorCode.RATE_LIMITED: "too many messages in a short time: try again later",
    ErrorCode.TOO_LARGE: "it is too large, and nothing was done",
    ErrorCode.BAD_ACK: "an ack was beyond what was sent",
    ErrorCode.USER_MISMATCH: "the token is another user's",
    ErrorCode.UNAVAILABLE: "it is unknown whether it was done: look before you try again",
    ErrorCode.CORRUPT: "data that it needs is damaged: run `huahuo doctor`",
    ErrorCode.STORAGE_FULL: "the disk of the service is nearly full, and nothing was done: try again later",
    ErrorCode.QUOTA_EXCEEDED: "this user has no room left: delete something, or get a larger quota",
    ErrorCode.INTERNAL: "the service failed; its log has the details under this number",
}
"""What each code of PROTOCOL 6.2 means to the caller."""


def in_english(code: str, message: str, details: object = "") -> str:
    """What the code means, with the details, which are English.

    An application's message stays: that of a code of its own, or one in ASCII. The service's own are Chinese.
    """
    said = message if message.isascii() or code not in SENTENCES else ""
    sentence = ": ".join(part for part in (code, said or SENTENCES.get(code, "")) if part)
    return f"{sentence} ({details})" if details else sentence
