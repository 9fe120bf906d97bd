// Words in the reader's language, and how times and places in the page get them.

const en = {
  connecting: "connecting", online: "live", offline: "offline, again in {0} s", stopped: "stopped", catchingUp: "catching up",
  token: "Sign-in token", tokenHint: "A JWT, for example from “huahuo token”. It stays in this tab.", signIn: "Sign in", signOut: "Sign out",
  mailboxes: "Mailboxes", filter: "Filter", checkAll: "Check all", add: "Add a mailbox", addDo: "Add",
  email: "Address", password: "Password", type: "Kind", server: "Server", port: "Port",
  check: "Check", cancel: "Cancel", delete: "Delete", keep: "Keep", show: "Mails",
  confirmDelete: "Delete {0}? Its mails and its password are destroyed.",
  mails: "Mails of {0}", noMails: "Nothing has arrived yet.", moreMails: "Older mails", events: "Events", none: "No mailboxes yet.",
  count: "{0} mails", last: "checked {0}", never: "never checked", more: "{0} more match; narrow the filter.", cut: "Cut the connection",
  resumed: "{0}: resumed after {1}", gap: "{0}: history was pruned, state reloaded", reset: "{0}: the log was replaced, state reloaded",
  idle: "idle", queued: "queued", processing: "checking", ok: "ok", error: "error", need_reauth: "sign-in needed", cancelled: "cancelled",
  stop1000: "The server ended the session.", stop4003: "The token has expired: sign in with a new one.",
  stop4009: "This session continues in another window.", stop4500: "The server does not accept this token.",
  stop4503: "This sign-in was revoked.", stopElse: "The connection ended: {0} ({1}).", takeOver: "Continue here",
  tooMany: "Too many commands are waiting.",
};

const zh = {
  connecting: "正在连接", online: "实时", offline: "离线，{0} 秒后重连", stopped: "已停止", catchingUp: "正在追赶",
  token: "登录令牌", tokenHint: "JWT，例如由 “huahuo token” 生成。只保存在此标签页。", signIn: "登录", signOut: "退出",
  mailboxes: "邮箱", filter: "筛选", checkAll: "全部检查", add: "添加邮箱", addDo: "添加",
  email: "邮箱地址", password: "密码", type: "类型", server: "服务器", port: "端口",
  check: "检查", cancel: "取消", delete: "删除", keep: "保留", show: "邮件",
  confirmDelete: "删除 {0}？其邮件和密码将被销毁。",
  mails: "{0} 的邮件", noMails: "还没有邮件。", moreMails: "更早的邮件", events: "事件", none: "还没有邮箱。",
  count: "{0} 封邮件", last: "上次检查 {0}", never: "从未检查", more: "还有 {0} 个匹配，请缩小筛选范围。", cut: "断开连接",
  resumed: "{0}：从 {1} 之后继续", gap: "{0}：历史已清理，状态已重新加载", reset: "{0}：日志已更换，状态已重新加载",
  idle: "空闲", queued: "排队中", processing: "检查中", ok: "正常", error: "错误", need_reauth: "需要重新登录", cancelled: "已取消",
  stop1000: "服务器结束了会话。", stop4003: "令牌已过期，请使用新令牌登录。",
  stop4009: "此会话已在另一个窗口继续。", stop4500: "服务器不接受此令牌。",
  stop4503: "此登录已被撤销。", stopElse: "连接已结束：{0}（{1}）。", takeOver: "在此继续",
  tooMany: "等待中的命令过多。",
};

const chinese = navigator.language.toLowerCase().startsWith("zh");
const words = chinese ? zh : en;

export const t = (key, ...args) => (words[key] ?? key).replace(/\{(\d)\}/g, (_, i) => String(args[i]));

const clock = new Intl.DateTimeFormat(chinese ? "zh-CN" : undefined, {
  month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
});

export function when(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? text : clock.format(date);
}

export function translatePage() {
  document.documentElement.lang = chinese ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.placeholder = t(node.dataset.label);
    node.setAttribute("aria-label", t(node.dataset.label));
  }
}
