// Your mailboxes, live. Open /client/#token=… (make demo prints a token); reload, cut the network, kill the server.
import { Client, watch } from "./huahuo-client.js";

const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? prompt("Token?");
const user = JSON.parse(atob(token.split(".")[1])).user_id;
const client = new Client({ token });
client.state.subscribe(({ name }) => (document.querySelector("#state").value = name));

watch(client, `user/${user}`, {
  snapshot: ({ emails }) => new Map(emails.map((row) => [row.id, row])),
  event: (rows, { type, email_id: id, ...fields }) => {
    const next = new Map(rows);
    if (type === "email_deleted") next.delete(id);
    else if (type !== "mail_received") next.set(id, { progress: 0, message: "", ...next.get(id), id, ...fields });
    return next;
  },
}).subscribe(({ value: rows, seq }) => {
  const lines = [...rows.values()].map((row) => `${row.email}  ${row.status ?? ""}  ${row.progress}%  ${row.message}`);
  document.querySelector("#emails").textContent = [...lines, `event ${seq}`].join("\n");
});
