"""What `HttpRequest` and the entities of an application say to clients, in English. See `zh`."""

TOKEN_NEEDED = "send a token as `Authorization: Bearer …`"  # noqa: S105  a text
FIELDS_WRONG = "a field is not valid ({})"
BODY_CODED = "the body is compressed: send it without Content-Encoding"
BODY_NO_JSON = "the body is no JSON"
WAIT_NEEDED = "wait: seconds from 0 to {} are needed"

JOB_TOO_LARGE = "{} has arguments of {} bytes, at most {}"
EVENT_TOO_LARGE = "{} has {} bytes, at most {}"
STATE_TOO_LARGE = "the state would have more than {} bytes"
REPLY_TOO_LARGE = "a reply of {} bytes, at most {}"
TOO_MANY = "a decision of {} {}, at most {}"
NO_SUCH = "there is no such {}"
FIELD_NOT_ALLOWED = "a field is not allowed"
MAKES_A_NEW_ONE = "this command makes a new {}"
