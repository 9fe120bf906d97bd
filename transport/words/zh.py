"""The transport's texts in Chinese, which is also how the code names them (`huahuo.actors.plugins.words`)."""

AUTHENTICATED = "认证成功"
TOKEN_EXPIRED = "认证令牌已过期，请获取新的令牌后重新连接"  # noqa: S105  a text
TOKEN_INVALID = "无效的认证令牌，请重新登录"  # noqa: S105  a text
TOKEN_REVOKED = "认证令牌已被吊销，请重新登录"  # noqa: S105  a text
NOT_JUDGED_NOW = "暂时无法验证令牌，请稍后重试"
SIGN_IN_FIRST = "请先进行身份认证"
OTHER_USER = "令牌属于另一用户，连接保持不变"
WRONG_PASSWORD = "用户名或密码错误"  # noqa: S105  a text
TOO_MANY_SIGN_INS = "登录失败次数过多，请稍后再试"

TOO_OFTEN = "消息过于频繁，请稍后重试"
NO_TEXT = "消息不是允许大小内的 UTF-8 文本"
TOO_DEEP = "消息嵌套超过 {} 层"
NO_JSON = "消息不是 JSON"
NO_OBJECT = "消息不是 JSON 对象"
NO_STRICT_JSON = "消息不是严格的 JSON"
INVALID_FIELD = "字段无效"
INVALID_FIELD_NAMED = "字段无效：{}"
UNKNOWN_ACTION = "未知的操作"
BAD_ACK = "确认的位置超出了已发送的范围"
TOO_MANY_SUBSCRIPTIONS = "一个连接最多订阅 {} 个流"

REPLY_TOO_LARGE = "回复过大，请缩小查询范围"
TOO_MUCH_UNREAD = "未读取的回复过多，请稍后重试"
TOO_MANY_QUERIES = "查询过多，请稍后重试"
INTERNAL = "服务器内部错误"
BUSY = "服务繁忙，请稍后以相同的 id 重试"
OUTCOME_UNKNOWN = "结果未知，请以相同的 id 重试"
CORRUPT = "所需数据已损坏，请联系管理员"
STORAGE_FULL = "服务器磁盘空间即将用尽：未执行任何操作，请稍后重试"
QUOTA_EXCEEDED = "您的数据已占满可用空间：请先删除一部分"
ID_IN_USE = "该 id 已用于另一条命令"
CONTENT_TOO_LARGE = "内容过大，未作任何更改"
ADMINS_ONLY = "需要管理员权限"
NO_RIGHT_OF_KEY = "该密钥没有此权限"

PUBLISHED = "发布成功"
REVOKED = "吊销成功"
NO_JSON_FIELD = "字段无法表示为 JSON"
EVENT_TOO_LARGE = "事件过大"
NOT_YOURS_TO_WRITE = "无权写入该流"
NO_SUCH_ACTION = "this service has no such action (未知的操作)"
