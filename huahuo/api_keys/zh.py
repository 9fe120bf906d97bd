"""What users of API keys are told, in Chinese, which is also how the code names it."""

MADE_BEFORE = "密钥已创建，且只显示一次；如已丢失，请吊销后重新创建"
KEY_REVOKED = "密钥已吊销"
REFUSED = "操作失败"
ADMINS_ONLY = "需要管理员权限"
