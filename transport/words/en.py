"""The transport's texts in English. See `zh`."""

AUTHENTICATED = "signed in"
TOKEN_EXPIRED = "the token has expired: get a new one, then connect again"  # noqa: S105  a text
TOKEN_INVALID = "the token is not valid: sign in again"  # noqa: S105  a text
TOKEN_REVOKED = "the token was revoked: sign in again"  # noqa: S105  a text
NOT_JUDGED_NOW = "the token cannot be checked at the moment: try again later"
SIGN_IN_FIRST = "sign in first"
OTHER_USER = "the token belongs to another user; the connection stays as it is"
WRONG_PASSWORD = "wrong user name or password"  # noqa: S105  a text
TOO_MANY_SIGN_INS = "too many failed sign-ins: try again later"

TOO_OFTEN = "too many messages: try again later"
NO_TEXT = "the message is no UTF-8 text of the allowed size"
TOO_DEEP = "the message is nested deeper than {} levels"
NO_JSON = "the message is not JSON"
NO_OBJECT = "the message is no JSON object"
NO_STRICT_JSON = "the message is not strict JSON"
INVALID_FIELD = "a field is not valid"
INVALID_FIELD_NAMED = "a field is not valid: {}"
UNKNOWN_ACTION = "unknown action"
BAD_ACK = "the acknowledged position lies beyond what was sent"
TOO_MANY_SUBSCRIPTIONS = "one connection may subscribe to at most {} streams"

REPLY_TOO_LARGE = "the reply is too large: ask for less"
TOO_MUCH_UNREAD = "too many replies have not been read: try again later"
TOO_MANY_QUERIES = "too many queries: try again later"
INTERNAL = "internal error of the server"
BUSY = "the service is busy: try again later with the same id"
OUTCOME_UNKNOWN = "the outcome is unknown: try again with the same id"
CORRUPT = "the data that is needed is damaged: tell an administrator"
STORAGE_FULL = "the disk of the service is nearly full: nothing was done, try again later"
QUOTA_EXCEEDED = "your data takes up all the room that you have: delete some of it first"
ID_IN_USE = "this id was used for another command"
CONTENT_TOO_LARGE = "the content is too large; nothing was changed"
ADMINS_ONLY = "only administrators may do this"
NO_RIGHT_OF_KEY = "this API key has no right to it"

PUBLISHED = "published"
REVOKED = "revoked"
NO_JSON_FIELD = "a field cannot be written as JSON"
EVENT_TOO_LARGE = "the event is too large"
NOT_YOURS_TO_WRITE = "this stream is not yours to write"
NO_SUCH_ACTION = "this service has no such action"
