"""The service's own refusals in English, for exceptions and for HTTP. Pure.

A refusal is written in Chinese, as classic clients have always got it. Texts of an application stay as they
are, in whatever language it writes them.
"""

from typing import Final

from huahuo.transport.protocol.refusals import SENTENCES

TEXTS: Final = {
    "事件过大": "the event is too large",
    "内容过大，未作任何更改": "the content is too large; nothing was changed",
    "回复过大，请缩小查询范围": "the reply is too large: ask for less",
    "字段无效": "a field is not allowed",
    "字段无法表示为 JSON": "a field cannot be written as JSON",
    "所需数据已损坏，请联系管理员": "the data that is needed is damaged: tell the operator",
    "服务器内部错误": "the server met a fault; its log explains this number",
    "服务繁忙，请稍后以相同的 id 重试": "the service is busy: try again later with the same id",
    "未知的操作": "there is no such action",
    "消息不是 JSON": "the message is no JSON",
    "消息不是 JSON 对象": "the message is no JSON object",
    "消息不是严格的 JSON": "the message is no strict JSON",
    "消息不是允许大小内的 UTF-8 文本": "the message is no UTF-8 text of an allowed size",
    "结果未知，请以相同的 id 重试": "the outcome is not known: try again with the same id",
    "该 id 已用于另一条命令": "this id was used for another command",
    "请先进行身份认证": "authenticate first",
    "需要管理员权限": "only administrators may do this",
}
_ONE_FIELD: Final = "字段无效："


def translated(message: str) -> str:
    """`message` in English if it is a text of the transport, else as it is."""
    if message.startswith(_ONE_FIELD):
        return f"{TEXTS['字段无效']}: {message.removeprefix(_ONE_FIELD)}"
    return TEXTS.get(message, message)


def of_service(code: str, message: str) -> str:
    """A refusal of the service or of a plug-in in English: its text, else what its code means."""
    said = translated(message)
    known = said.isascii() or code not in SENTENCES
    return said if known else SENTENCES[code]
