"""What `HttpRequest` says to clients, in English. See `zh`."""

TOKEN_NEEDED = "send a token as `Authorization: Bearer …`"  # noqa: S105  a text
FIELDS_WRONG = "a field is not valid ({})"
BODY_CODED = "the body is compressed: send it without Content-Encoding"
BODY_NO_JSON = "the body is no JSON"
WAIT_NEEDED = "wait: seconds from 0 to {} are needed"
