"""What `HttpRequest` says to clients, in Chinese, as the code says it. See `words`."""

TOKEN_NEEDED = "请以 `Authorization: Bearer …` 发送令牌"  # noqa: S105  a text
FIELDS_WRONG = "字段无效（{}）"
BODY_CODED = "正文经过压缩：请不带 Content-Encoding 发送"
BODY_NO_JSON = "正文不是 JSON"
WAIT_NEEDED = "wait: 需要 0 至 {} 的秒数"
