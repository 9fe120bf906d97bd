// Draws what the model says. Text nodes only: whatever a mail's subject holds, it stays text.

import { t, when } from "/text.js";

const ROWS_MAX = 300;
const LINES_MAX = 500;
const BUSY = new Set(["queued", "processing"]);

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

// -- mailboxes ------------------------------------------------------------------------------------

const drawn = new Map(); // id -> the parts of its row that change
const dirty = new Set();
let frame = 0;

export function changed(model, id) {
  dirty.add(id);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (dirty.has(null)) drawAll(model);
    else for (const one of dirty) drawRow(model, one);
    dirty.clear();
    $("count").textContent = model.rows.size || "";
  });
}

function drawAll(model) {
  const wanted = $("filter").value.trim().toLowerCase();
  const matching = [...model.rows.values()].filter((row) => row.email.toLowerCase().includes(wanted));
  const focused = document.activeElement?.dataset?.key;
  drawn.clear();
  $("rows").replaceChildren(...matching.slice(0, ROWS_MAX).map((row) => newRow(model, row)));
  const hidden = matching.length - ROWS_MAX;
  $("more").hidden = hidden <= 0 && model.rows.size > 0;
  $("more").textContent = hidden > 0 ? t("more", hidden) : t("none");
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function newRow(model, row) {
  const button = (name, press, style = "") => {
    const node = el("button", { textContent: t(name), className: style, onclick: press });
    node.dataset.key = `${name}-${row.id}`;
    node.setAttribute("aria-label", `${t(name)} ${row.email}`);
    return node;
  };
  const parts = {
    status: el("span", { className: "status" }),
    bar: el("progress", { max: 100 }),
    message: el("span", { className: "message" }),
    facts: el("span", { className: "facts" }),
    check: button("check", () => model.act.check([row.id])),
    cancel: button("cancel", () => model.act.cancel([row.id])),
  };
  parts.bar.setAttribute("aria-label", row.email);
  const show = button("show", () => model.act.show(row.id), "link");
  show.textContent = row.email;
  parts.item = el(
    "li", {},
    el("div", { className: "line" }, show, parts.status),
    parts.bar,
    el("div", { className: "line" }, el("div", { className: "words" }, parts.message, parts.facts),
      el("div", { className: "buttons" }, parts.check, parts.cancel,
        button("delete", () => model.act.remove(row), "danger"))),
  );
  drawn.set(row.id, parts);
  fill(model, row, parts);
  return parts.item;
}

function drawRow(model, id) {
  const row = model.rows.get(id);
  const parts = drawn.get(id);
  if (row && parts) fill(model, row, parts);
}

function fill(model, row, parts) {
  const busy = BUSY.has(row.status);
  parts.item.dataset.status = row.status;
  parts.item.toggleAttribute("data-shown", model.shown === row.id);
  parts.status.textContent = t(row.status);
  parts.bar.value = row.progress;
  parts.bar.hidden = !busy;
  parts.message.textContent = row.message && row.status !== "ok" ? row.message : "";
  const last = row.last_check_time ? t("last", when(row.last_check_time)) : t("never");
  parts.facts.textContent = `${t("count", row.mail_count)} · ${last}`;
  if (document.activeElement === (busy ? parts.check : parts.cancel)) {
    (busy ? parts.cancel : parts.check).hidden = false;
    (busy ? parts.cancel : parts.check).focus();
  }
  parts.check.hidden = busy;
  parts.cancel.hidden = !busy;
}

// -- mails, events, messages ------------------------------------------------------------------------

export function mailItem(mail) {
  return el(
    "li", {},
    el("strong", { textContent: mail.subject || "—" }),
    el("span", { textContent: `${mail.sender} · ${when(mail.received_time)}${mail.has_attachments ? " · 📎" : ""}` }),
  );
}

export function line(stream, seq, text) {
  const list = $("event-lines");
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(el("li", {}, el("b", { textContent: `${stream} ${seq}` }), ` ${text}`));
  while (list.childElementCount > LINES_MAX) list.firstElementChild.remove();
  if (follows) list.scrollTop = list.scrollHeight;
}

export function toast(text, level = "info") {
  const node = el("button", { className: "toast", textContent: text, onclick: () => node.remove() });
  node.dataset.level = level;
  $("toasts").append(node);
  while ($("toasts").childElementCount > 5) $("toasts").firstElementChild.remove();
  setTimeout(() => node.remove(), level === "error" ? 20_000 : 8000);
}

export function notice(text, label, press) {
  const node = $("notice");
  node.hidden = !text;
  node.firstElementChild.textContent = text;
  Object.assign(node.lastElementChild, { hidden: !label, textContent: label ?? "", onclick: press });
}

export async function confirmed(text) {
  const dialog = $("confirm");
  dialog.querySelector("p").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return dialog.returnValue === "yes";
}
