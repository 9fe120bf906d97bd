"""What users are told about administration, accounts, API keys and webhooks, in Chinese.

The Chinese text is also how the code names it; `huahuo.en` has the English one under the same name.
"""

DONE = "完成"
NO_OWNER = "邮箱不存在"
COMPACTING = "正在压缩"
COMPACTED = "压缩完成"
INDEXING = "审计索引正在建立，请稍后重试"
INVALID_FIELD = "字段无效"

KEY_MADE_BEFORE = "密钥已创建，且只显示一次；如已丢失，请吊销后重新创建"
KEY_REVOKED = "密钥已吊销"
REFUSED = "操作失败"
ADMINS_ONLY = "需要管理员权限"

USER_ADDED = "用户添加成功"
USER_DISABLED = "用户已停用"
USER_ENABLED = "用户已启用"
USER_REMOVED = "用户已删除"
PASSWORD_SET = "密码修改成功"  # noqa: S105  a text
PASSWORD_CHANGED = "密码修改成功，请重新登录"  # noqa: S105  a text
SIGNED_OUT = "已退出所有登录"
NO_SUCH_USER = "用户不存在"
OLD_PASSWORD_WRONG = "原密码错误"  # noqa: S105  a text

NAME_TAKEN = "用户名已存在"
NAME_INVALID = "用户名须为 1 到 {} 个可见字符，首尾不能有空格"
PASSWORD_LENGTH = "密码长度须为 {} 到 {} 个字符"  # noqa: S105  a text
NEEDS_ARGON2 = "本服务未安装密码登录，管理员可运行 pip install 'huahuo[passwords]'"
REGISTRATION_OFF = "注册功能已禁用"
LINK_USED = "此链接已使用，或属于服务的另一次启动"
USERS_ALREADY = "已有用户"
LAST_ADMIN = "这是最后一个管理员，请先添加另一个"
TOO_OFTEN = "尝试次数过多，请稍后再试"
REGISTRATION_ON = "任何人都可以注册"

HOOK_MADE_BEFORE = "Webhook 已创建，签名密钥只显示一次；如已丢失，请删除后重新创建"
HOOK_REMOVED = "Webhook 已删除"
QUEUED_AGAIN = "已重新排队"
CHANGED_BEFORE = "密钥此前已更换，只显示一次；如已遗失，请再次更换"
HOOK_PAUSED = "Webhook 已暂停，期间的事件会保留"
HOOK_RESUMED = "Webhook 已恢复"
