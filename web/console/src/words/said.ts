/** What the server says, in the reader's language: it speaks Chinese, or Chinese with English in brackets. Pure. */

import type { Language } from "../model/format";

const CHINESE = /[\u4e00-\u9fff]/;
const BOTH = /^([^(]*[\u4e00-\u9fff][^(]*) \(([^()]*)\)(.*)$/s;

const ENGLISH: readonly (readonly [RegExp, string])[] = [
  [/^等待检查$/, "Waiting for its turn"],
  [/^正在连接邮箱服务器$/, "Connecting to the mail server"],
  [/^正在登录邮箱$/, "Signing in"],
  [/^正在选择文件夹 (.+)$/, "Opening the folder $1"],
  [/^正在处理第 (\d+)\/(\d+) 封邮件$/, "Reading mail $1 of $2"],
  [/^正在检查邮件 (\d+)\/(\d+)$/, "Checking mail $1 of $2"],
  [/^检查完成，共 (\d+) 封新邮件$/, "Done, $1 new mails"],
  [/^没有找到新邮件$/, "No new mail"],
  [/^新邮件监听已恢复$/, "Watching works again"],
  [/^服务重启，检查中断$/, "Interrupted by a restart of the service"],
  [/^检查已取消$/, "Cancelled"],
  [/^邮箱地址和密码不能为空$/, "Address and password are needed"],
  [/^邮箱地址格式错误$/, "The address is malformed"],
  [/^不支持的邮箱类型$/, "This kind of mailbox is not supported"],
  [/^端口无效$/, "The port is not valid"],
  [/^服务器地址无效$/, "The server's address is not valid"],
  [/^Outlook邮箱需要提供Client ID和Refresh Token$/, "Outlook needs a client ID and a refresh token"],
  [/^邮箱 (.+) 添加失败，可能已存在$/, "$1 exists already"],
  [/^邮箱地址已存在$/, "The address exists already"],
  [/^邮箱地址重复$/, "The address occurs twice"],
  [/^导入已取消$/, "The import was cancelled"],
  [/^同时最多 (\d+) 个导入任务$/, "No more than $1 imports at a time"],
  [/^导出密码需要重新登录$/, "Sign in again to export passwords"],
  [/^没有符合条件的邮箱$/, "No mailbox matches"],
  [/^标签须为 1 至 (\d+) 个字符$/, "A tag has 1 to $1 characters"],
  [/^分组名称最多 (\d+) 个字符$/, "The name of a group has at most $1 characters"],
  [/^备注最多 (\d+) 个字符$/, "A note has at most $1 characters"],
  [/^未提供标签、备注或分组$/, "Nothing is to be changed"],
  [/^搜索索引正在重建，请稍后重试$/, "The index is being made anew: try again later"],
  [/^字段内容无效$/, "A field holds what no login can use"],
  [/^格式错误，需要4个字段$/, "Malformed: four fields are needed"],
  [/^格式错误，至少需要2个字段$/, "Malformed: at least two fields are needed"],
  [/^有空白字段$/, "A field is empty"],
  [/^所有邮箱都在处理中，请稍后再试$/, "All of them are being checked already"],
  [/^邮箱数量已达上限 (\d+)$/, "No more than $1 mailboxes are allowed"],
  [/^一次最多导入 (\d+) 行$/, "No more than $1 lines at once"],
  [/^需要管理员权限$/, "Only admins may do that"],
  [/^字段无效：(.+)$/, "A field is not valid: $1"],
];

export function said(text: string, language: Language): string {
  const both = BOTH.exec(text);
  if (both) {
    const english = (both[2] ?? "").replace(/^./, (letter) => letter.toUpperCase());
    return (language === "zh" ? both[1] : english) + (both[3] ?? "");
  }
  if (language === "zh" || !CHINESE.test(text)) return text;
  for (const [chinese, english] of ENGLISH) if (chinese.test(text)) return text.replace(chinese, english);
  return text;
}
