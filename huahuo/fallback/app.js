// The page: who is signed in, what the streams say about the mailboxes, what the buttons do.

import { Connection } from "/connection.js";
import { t, translatePage } from "/text.js";
import { $, changed, confirmed, line, mailItem, notice, toast } from "/view.js";

const SYSTEM = "system";
const ENDED = new Set(["ok", "error", "need_reauth", "cancelled"]);
const PANELS = ["mailboxes", "events", "cut", "sign-out"];

const model = { rows: new Map(), shown: null, act: { check, cancel, remove, show } };
let connection = null;
let user = null;
let own = ""; // the user's stream

// -- signing in and out -----------------------------------------------------------------------------

function start() {
  translatePage();
  for (const [id, key] of [["cut", "cut"], ["sign-out", "signOut"]]) $(id).textContent = t(key);
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname); // out of the address bar and the history
    sessionStorage.setItem("token", token);
  }
  window.addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());
  const known = sessionStorage.getItem("token");
  if (known) connect(known);
  else showSignIn();
}

function showSignIn() {
  $("sign-in").hidden = false;
  for (const id of [...PANELS, "mails"]) $(id).hidden = true;
  setState("offline", null);
  $("sign-in").elements.token.focus();
}

function connect(token, client = sessionStorage.getItem("client")) {
  client ??= `web-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  sessionStorage.setItem("client", client);
  connection?.close();
  $("sign-in").hidden = true;
  notice("");
  own = "";
  connection = new Connection(token, client, storedCursor(token), {
    state: setState, opened, placed, live, snapshot, event, stopped,
  });
}

function signOut() {
  connection?.close();
  connection = null;
  sessionStorage.clear();
  localStorage.removeItem("huahuo");
  model.rows.clear();
  changed(model, null);
  $("event-lines").replaceChildren();
  $("who").textContent = "";
  notice("");
  showSignIn();
}

// Notifications of `system` that came while the page was away are still to be shown: its cursor
// outlives the page. The mailboxes are loaded as a state, so theirs need not.
function storedCursor(token) {
  try {
    const stored = JSON.parse(localStorage.getItem("huahuo"));
    const claims = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
    return stored.user === claims.user_id ? { log: stored.log, cursors: { [SYSTEM]: stored.seq } } : {};
  } catch {
    return {};
  }
}

function keepCursor() {
  if (!user || !connection.cursors.has(SYSTEM)) return;
  const seq = connection.cursors.get(SYSTEM);
  localStorage.setItem("huahuo", JSON.stringify({ user: user.user_id, log: connection.log, seq }));
}

// -- what the connection says -----------------------------------------------------------------------

function setState(name, detail) {
  $("state").dataset.state = name;
  $("state").textContent = t(name, detail ?? "");
  if (name === "offline" && detail === null) $("state").textContent = "";
  $("cut").disabled = name === "offline" || name === "stopped";
}

function opened(result) {
  user = result.user;
  $("who").textContent = user.username;
  for (const id of PANELS) $(id).hidden = false;
  if (!own) {
    own = `user/${user.user_id}`;
    connection.load(own);
  }
  keepCursor();
}

function placed(stream, outcome, after) {
  if (["resumed", "gap", "reset"].includes(outcome)) line(stream, "", t(outcome, stream, after));
  showCursor();
}

function live(stream) {
  if (stream === own) setState("online");
}

function snapshot(stream, seq, state) {
  line(stream, seq, "snapshot");
  if (stream === own) {
    model.rows = new Map(state.emails.map((row) => [row.id, row]));
    changed(model, null);
    if (model.shown !== null) show(model.rows.has(model.shown) ? model.shown : null);
  } else if (stream === SYSTEM) {
    keepCursor();
  }
  showCursor();
}

function event(stream, seq, what) {
  line(stream, seq, JSON.stringify(what));
  if (stream === own) apply(what);
  else if (stream === SYSTEM) keepCursor();
  if (what.type === "system_notification") toast(what.message, what.level);
  showCursor();
}

function stopped(code, reason) {
  const known = [1000, 4003, 4009, 4500, 4503].includes(code);
  const text = known ? t(`stop${code}`) : t("stopElse", reason || "?", code);
  if (code === 4009) {
    const again = () => connect(sessionStorage.getItem("token"), null);
    notice(text, t("takeOver"), again);
    return;
  }
  sessionStorage.removeItem("token");
  showSignIn();
  setState("stopped");
  notice(`${text} (${code})`);
}

function showCursor() {
  $("cursor").textContent = [...connection.cursors].map(([stream, seq]) => `${stream} ${seq}`).join(" · ");
}

// -- events of the mailboxes ------------------------------------------------------------------------

function apply(what) {
  const row = model.rows.get(what.email_id);
  switch (what.type) {
    case "email_added":
      model.rows.set(what.email_id, {
        id: what.email_id, email: what.email, mail_type: what.mail_type,
        status: "idle", progress: 0, message: "", last_check_time: null, mail_count: 0,
      });
      return changed(model, null);
    case "email_deleted":
      model.rows.delete(what.email_id);
      if (model.shown === what.email_id) show(null);
      return changed(model, null);
  }
  if (!row) return;
  switch (what.type) {
    case "email_updated":
      Object.assign(row, what);
      break;
    case "email_status_update":
      Object.assign(row, { status: what.status, message: what.message });
      if (what.status === "queued") row.progress = 0;
      if (what.status === "ok") row.last_check_time = what.timestamp;
      if (ENDED.has(what.status)) row.progress = 0;
      break;
    case "check_progress":
      Object.assign(row, { progress: what.progress, message: what.message });
      break;
    case "mail_received":
      row.mail_count += 1;
      if (model.shown === row.id) {
        $("mail-rows").prepend(mailItem(what));
        $("no-mails").hidden = true;
      }
      break;
  }
  changed(model, row.id);
}

// -- buttons ----------------------------------------------------------------------------------------

async function command(action, fields) {
  try {
    return await connection.command(action, fields);
  } catch (error) {
    toast(error.message === "too_many" ? t("tooMany") : error.message, "error");
    return null;
  }
}

async function check(ids) {
  for (let i = 0; i < ids.length; i += 1000) await command("check_emails", { email_ids: ids.slice(i, i + 1000) });
}

function cancel(ids) {
  return command("cancel_check", { email_ids: ids });
}

async function remove(row) {
  if (await confirmed(t("confirmDelete", row.email))) await command("delete_emails", { email_ids: [row.id] });
}

let request = 0; // a newer click wins over an older answer

async function show(id, before) {
  const mine = ++request;
  const earlier = model.shown;
  model.shown = id;
  for (const one of [earlier, id]) if (one !== null) changed(model, one);
  $("mails").hidden = id === null;
  if (id === null) return;
  $("mails-title").textContent = t("mails", model.rows.get(id).email);
  const page = await command("get_mail_records", { email_id: id, limit: 30, ...(before && { before }) });
  if (!page || mine !== request) return;
  const items = page.data.map(mailItem);
  if (before) $("mail-rows").append(...items);
  else $("mail-rows").replaceChildren(...items);
  $("no-mails").hidden = $("mail-rows").childElementCount > 0;
  Object.assign($("more-mails"), { hidden: !page.next, onclick: () => show(id, page.next) });
}

async function add(form) {
  const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  if (fields.port) fields.port = Number(fields.port);
  fields.use_ssl = form.elements.use_ssl.checked;
  const reply = await command("add_email", fields);
  if (!reply) return;
  form.reset();
  $("add").open = false;
  toast(reply.message);
}

$("sign-in").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const token = submit.target.elements.token.value.trim();
  submit.target.reset();
  sessionStorage.setItem("token", token);
  connect(token);
});
$("add-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  add(submit.target);
});
$("check-all").addEventListener("click", () => check([...model.rows.keys()]));
$("filter").addEventListener("input", () => changed(model, null));
$("cut").addEventListener("click", () => connection.lost());
$("sign-out").addEventListener("click", signOut);

start();
