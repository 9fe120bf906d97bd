// A page that reads a stream; `open` says how: ?server=…&stream=…&kind=memory|stored#token,token,…
//   stored: every event goes into an IndexedDB store in one transaction with the place. Its keys count
//   up by themselves, so that an event that was applied twice would be there twice.
import { Client, HuahuoError, IndexedDbCursors } from "/client/huahuo-client.js";

const query = new URLSearchParams(location.search);
const tokens = location.hash.slice(1).split(",");

window.seen = [];
window.states = [];
window.statuses = [];
window.tokensGiven = 0;
window.HuahuoError = HuahuoError;

window.database = new Promise((resolve, reject) => {
  const request = indexedDB.open("app", 1);
  request.onupgradeneeded = () => {
    IndexedDbCursors.createStore(request.result);
    request.result.createObjectStore("applied", { autoIncrement: true });
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

window.applied = async () => {
  const transaction = (await window.database).transaction("applied");
  const all = transaction.objectStore("applied").getAll();
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  return all.result;
};

window.place = async () => {
  const transaction = (await window.database).transaction("huahuo");
  const all = transaction.objectStore("huahuo").getAll();
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  return all.result.find(({ seq }) => seq !== undefined)?.seq;
};

window.client = new Client({
  url: query.get("server"),
  getToken: () => tokens[Math.min(window.tokensGiven++, tokens.length - 1)],
  share: query.get("share") !== "no",
  backoffMs: [20, 200],
  ...(query.get("kind") === "stored" && { cursors: new IndexedDbCursors({ database: window.database }) }),
});
window.states.push(window.client.state.value.name);
window.client.state.subscribe(({ name }) => window.states.push(name));
window.client.onStatus((status) => window.statuses.push(status));

if (query.get("kind") === "stored") {
  const database = await window.database;
  window.subscription = window.client.subscribe(query.get("stream"), {
    async onBatch(events, commit) {
      const transaction = database.transaction(["applied", "huahuo"], "readwrite");
      for (const { n } of events) transaction.objectStore("applied").add(n);
      commit(transaction);
      window.seen.push(...events.map(({ n }) => n));
    },
  });
} else if (query.get("kind") === "memory") {
  window.subscription = window.client.subscribe(query.get("stream"), {
    onEvent: ({ n }) => window.seen.push(n),
  });
}
window.ready = true;
