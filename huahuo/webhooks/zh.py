"""What users of webhooks are told, in Chinese, which is also how the code names it."""

MADE_BEFORE = "Webhook 已创建，签名密钥只显示一次；如已丢失，请删除后重新创建"
HOOK_REMOVED = "Webhook 已删除"
QUEUED_AGAIN = "已重新排队"
REFUSED = "操作失败"
ADMINS_ONLY = "需要管理员权限"
