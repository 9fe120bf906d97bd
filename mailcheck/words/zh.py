"""What users of mail are told, as the code says it. See `huahuo.actors.plugins.words`."""

GROUP_PROXY_SET = "已设置该分组的代理"
GROUP_PROXY_TAKEN = "该分组不再使用单独的代理"
GROUP_NAME = "分组名称须为 1 至 {} 个字符"
