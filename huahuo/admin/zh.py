"""What administrators are told, in Chinese, which is also how the code names it."""

DONE = "完成"
NO_OWNER = "邮箱不存在"
COMPACTING = "正在压缩"
COMPACTED = "压缩完成"
INDEXING = "审计索引正在建立，请稍后重试"
INVALID_FIELD = "字段无效"
