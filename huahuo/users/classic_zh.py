"""What FireMail's front end is told about users, in Chinese: its only language."""

WRONG = "用户名或密码错误"
NOT_GIVEN = "用户名和密码不能为空"
INVALID = "用户名或密码无效：密码长度为 {} 到 {} 个字符"
REGISTERED = "注册成功"
SIGNED_OUT = "已成功登出"
BOTH_NEEDED = "旧密码和新密码不能为空"
OLD_WRONG = "旧密码不正确"
PASSWORD_UPDATED = "密码已成功更新"  # noqa: S105  a text
USER_MADE = "用户创建成功"
NOT_YOURSELF = "不能删除自己的账户"
USER_REMOVED = "用户ID {} 已删除"
NEW_NEEDED = "新密码不能为空"
PASSWORD_RESET = "用户ID {} 的密码已重置"  # noqa: S105  a text
REGISTRATION_ON = "已成功开启注册功能"
REGISTRATION_OFF = "已成功关闭注册功能"
