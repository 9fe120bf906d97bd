"""What `HttpRequest` and the entities say to clients, in Chinese, as the code says it. See `words`."""

TOKEN_NEEDED = "请以 `Authorization: Bearer …` 发送令牌"  # noqa: S105  a text
FIELDS_WRONG = "字段无效（{}）"
BODY_CODED = "正文经过压缩：请不带 Content-Encoding 发送"
BODY_NO_JSON = "正文不是 JSON"
WAIT_NEEDED = "wait: 需要 0 至 {} 的秒数"

JOB_TOO_LARGE = "{} 的参数有 {} 字节，最多 {}"
EVENT_TOO_LARGE = "{} 有 {} 字节，最多 {}"
STATE_TOO_LARGE = "状态将超过 {} 字节"
REPLY_TOO_LARGE = "回复有 {} 字节，最多 {}"
TOO_MANY = "一次决定有 {} {}，最多 {}"
NO_SUCH = "没有这样的 {}"
FIELD_NOT_ALLOWED = "字段不被允许"
MAKES_A_NEW_ONE = "此命令会新建 {}"
