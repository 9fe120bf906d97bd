/**
 * The protocol over plain HTTP, for networks in which no WebSocket can be opened. It looks like a WebSocket to
 * the engine: what the engine sends becomes requests, and what they answer becomes messages of the protocol.
 * Each stream is one answer of server-sent events (docs/http.md). Anything that goes wrong ends the socket, and
 * the engine comes back with its cursors, as after any lost connection.
 */

import { AUTH_CLOSES, LOST } from "../model/codes.js";
import { MOVING } from "../wire/kinds.js";

type Json = Record<string, unknown>;
type After = number | "head" | "start" | "snapshot";
interface Page extends Json {
  readonly log: string;
  readonly outcome: string;
  readonly events: readonly Json[];
  readonly snapshot?: Json;
  readonly next: number;
  readonly more: boolean;
}
interface Asked {
  readonly stream: string;
  readonly after: After;
  readonly log: string | null;
}

/** The kinds that move a position and hold no events. A page has a list of each, under its name. */
const SPANS = [...MOVING].filter((name) => name !== "events" && name !== "snapshot");
const PAGE_EVENTS = 500;
/** A connection counts as dead when a comment of the server is overdue by this. */
const LATE_S = 10;
/** A connection counts as dead when an answer has not begun after this. A command is sent again, by its id. */
const PAGE_S = 20, COMMAND_S = 60;
/** Timers of JavaScript hold at most 24 days. */
const TIMER_S_MAX = 2_000_000;

/** What `HttpSocket` needs of the browser. */
export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** A refusal that the server explains. */
class Refused extends Error {
  constructor(readonly status: number, readonly problem: Json) {
    super(String(problem["detail"] ?? status));
  }
}

export class HttpSocket {
  readyState = 0;
  binaryType = "";
  readonly protocol = "huahuo.v1";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  private readonly base: string;
  private readonly over = new AbortController();
  private readonly readers = new Map<string, AbortController>();
  private views = 0;
  private readonly places = new Map<string, number>();
  token = "";
  private user = "";
  private client = "";
  private log = "";
  private language = "";

  /** @param url the WebSocket's address; the API is below its directory */
  constructor(url: string, private readonly fetch: Fetch) {
    this.base = new URL(".", url.replace(/^ws/, "http")).href;
    queueMicrotask(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.();
    });
  }

  close(): void {
    this.end(LOST, "");
  }

  send(text: string): void {
    const message = JSON.parse(text) as Json;
    void this.handle(message).catch((error: unknown) => this.failed(error));
  }

  private async handle(message: Json): Promise<void> {
    switch (message["action"]) {
      case "authenticate": return this.authenticate(message);
      case "subscribe": return this.subscribe(message);
      case "unsubscribe": {
        const stream = String(message["stream"]);
        this.readers.get(stream)?.abort();
        this.readers.delete(stream);
        this.places.delete(stream);
        return this.say({ type: "unsubscribed", stream, id: message["id"] });
      }
      case "ack":
        if (message["cursors"]) await this.ask("acks", { client: this.client, cursors: message["cursors"] });
        return;
      case "follow": return this.followList(message);
      case "unfollow":
        this.readers.get(`view ${String(message["view"])}`)?.abort();
        return this.say({ type: "unfollowed", id: message["id"], view: message["view"] });
      case "heartbeat":
        await this.ask("who"); // not /healthz, which pages of another origin may not ask with a token
        return this.say({ type: "heartbeat_response" });
      default: return this.command(message);
    }
  }

  private async authenticate(message: Json): Promise<void> {
    const before = this.token;
    this.token = String(message["token"]);
    this.language = String(message["language"] ?? this.language);
    const { user, expires_at, heartbeat_s } = await this.ask("who");
    const id = String((user as Json)["user_id"]);
    if (before !== "" && id !== this.user) {
      this.token = before;
      return this.say({ type: "error", code: "user_mismatch", message: "" });
    }
    this.user = id;
    const places = before === "" ? await this.begin(message) : this.standing();
    this.say({
      type: "authentication_result", success: true, message: "", code: "", session: "http", log: this.log, user,
      expires_at, heartbeat_s, window: message["window"] ?? 512, streams: Object.fromEntries(places) as Json,
    });
    for (const [stream, , page] of places) if (page) this.follow(stream, page);
  }

  private begin(message: Json): Promise<[string, Json, Page | null][]> {
    this.client = String(message["client"] ?? "");
    const resume = (message["resume"] ?? { log: null, cursors: {} }) as { log: string | null; cursors: Record<string, number> };
    const asked = [...new Set([`user/${this.user}`, "system", ...Object.keys(resume.cursors)])].map((stream): Asked =>
      ({ stream, after: resume.cursors[stream] ?? "head", log: resume.log }));
    return Promise.all(asked.map(async (one): Promise<[string, Json, Page | null]> => {
      const page = await this.page(one);
      return [one.stream, place(one, page), page];
    }));
  }

  /** The places of what is followed, for another token of the same user. */
  private standing(): [string, Json, null][] {
    return [...this.places].map(([stream, seq]) => [stream, { outcome: "resumed", after: seq, first: 1, head: seq }, null]);
  }

  private async subscribe(message: Json): Promise<void> {
    const { stream, after = "head", log = null } = message as unknown as Asked;
    this.readers.get(stream)?.abort();
    const asked: Asked = { stream, after, log };
    const page = await this.page(asked);
    this.say({ type: "subscribed", id: message["id"], stream, log: this.log, ...place(asked, page) });
    if (page) this.follow(stream, page);
  }

  /** A live list is an answer of its own. States are not told over HTTP: the connection that comes back has them. */
  private async followList({ id, list, fields, limit, from }: Json): Promise<void> {
    if (!list) return this.say({ type: "error", id, code: "unavailable", message: "not over HTTP", retry_s: 30 });
    const query = new URLSearchParams({ limit: String(limit) });
    for (const [name, value] of Object.entries(fields as Json)) query.set(name, String(value));
    if (from) query.set("after", encoded(from));
    const reader = new AbortController();
    const view = ++this.views;
    this.readers.set(`view ${view}`, reader);
    const said = (type: string, data: Json) => {
      if (type === "token_expiring" || type === "goaway") return this.said("", type, data);
      this.say({ ...data, type, view, ...(type === "following" && (data["was"] ? { was: view } : { id })) });
      if (type === "unfollowed") reader.abort();
    };
    try {
      await this.sent(`lists/${encodeURIComponent(String(list))}?${query}`, reader.signal, said);
    } catch (error) {
      if (reader.signal.aborted) return;
      const { code, detail, retry_s } = (error as Partial<Refused>).problem ?? {};
      if (!code || AUTH_CLOSES[code as string]) throw error;
      if (code === "forbidden") this.say({ type: "following", id, outcome: "denied" });
      else this.say({ type: "error", id, code, message: detail, retry_s });
    }
  }

  private async command(message: Json): Promise<void> {
    const { action, id, ...fields } = message;
    const headers = { "Idempotency-Key": String(id), "Huahuo-Client": this.client };
    let reply: Json;
    try {
      reply = await this.ask(`commands/${String(action)}`, fields, headers);
    } catch (error) {
      const { code, detail, retry_s, duplicate } = (error as Partial<Refused>).problem ?? {};
      if (!code || AUTH_CLOSES[code as string]) throw error;
      reply = { type: "error", code, message: detail, retry_s, duplicate };
    }
    this.say({ ...reply, id });
  }

  /** The first page after a position. Null: the user may not read the stream. */
  private async page({ stream, after, log }: Asked): Promise<Page | null> {
    const place = typeof after === "number" ? `${log ?? this.log}:${after}` : after;
    try {
      const page = await this.ask(`streams/${encodeURI(stream)}?after=${encodeURIComponent(place)}&limit=${PAGE_EVENTS}`);
      this.log = String(page["log"]);
      return page as unknown as Page;
    } catch (error) {
      if ((error as Refused).status === 403) return null;
      throw error;
    }
  }

  /** Hand on what the page holds, then follow the stream after it. */
  private follow(stream: string, page: Page): void {
    const reader = new AbortController();
    this.readers.set(stream, reader);
    this.places.set(stream, page.next);
    if (page.snapshot) this.say({ ...page.snapshot, stream });
    for (const type of SPANS) for (const span of (page[type] ?? []) as Json[]) this.say({ ...span, type, stream });
    for (const event of page.events) this.event(stream, event);
    this.read(stream, page.next, reader.signal).catch((error: unknown) => {
      if (!reader.signal.aborted) this.failed(error);
    });
  }

  private async read(stream: string, after: number, signal: AbortSignal): Promise<void> {
    const url = `streams/${encodeURI(stream)}?after=${encodeURIComponent(`${this.log}:${after}`)}`;
    await this.sent(url, signal, (name, data) => this.said(stream, name, data));
  }

  /** Server-sent events, until the answer ends. */
  private async sent(url: string, signal: AbortSignal, said: (name: string, data: Json) => void): Promise<void> {
    const ended = AbortSignal.any([signal, this.over.signal]);
    const answer = await this.asked(url, { headers: { Accept: "text/event-stream" }, signal: ended });
    const silenceS = Number(answer.headers.get("Huahuo-Heartbeat")) + LATE_S;
    const parts = (answer.body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", name = "", data = "";
    const next = () => this.within(silenceS, parts.read());
    for (let part = await next(); !part.done; part = await next()) {
      const split = (rest + part.value).split("\n");
      rest = split.pop() ?? "";
      for (const line of split) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data = line.slice(6);
        else if (line === "") {
          if (data && !ended.aborted) said(name, JSON.parse(data) as Json);
          name = data = "";
        }
      }
    }
    if (!ended.aborted) throw new Error("the answer ended");
  }

  /**
   * Ends the socket if this takes longer. A machine that lost its power says nothing more on its connections,
   * and the engine's heartbeat may be answered by its next life, on a connection of its own.
   */
  private async within<T>(seconds: number, work: Promise<T>): Promise<T> {
    const late = seconds > TIMER_S_MAX ? 0 : setTimeout(() => this.end(LOST, "nothing came for too long"), seconds * 1000);
    try {
      return await work;
    } finally {
      clearTimeout(late);
    }
  }

  private said(stream: string, name: string, data: Json): void {
    switch (name) {
      case "": return this.event(stream, data);
      case "live": return this.say({ type: "live", stream, seq: this.places.get(stream) ?? 0 });
      case "unsubscribed":
        this.readers.delete(stream);
        return this.say({ ...data, type: name, stream });
      case "token_expiring": return this.say({ ...data, type: name });
      case "goaway":
        this.say({ ...data, type: name });
        return this.end(Number(data["code"]), String(data["reason"] ?? ""));
      case "reset": case "gap": // come back: the place is then found anew
        return this.end(LOST, name);
      default:
        if (!SPANS.includes(name)) return;
        this.places.set(stream, Number(data["to"]));
        this.say({ ...data, type: name, stream });
    }
  }

  private event(stream: string, event: Json): void {
    const { stream: _, seq, ...body } = event;
    this.places.set(stream, seq as number);
    this.say({ type: "events", stream, seq, events: [body] });
  }

  async ask(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Json> {
    const post = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const answer = await this.asked(path, { signal: this.over.signal, headers, ...post });
    return this.within(body === undefined ? PAGE_S : COMMAND_S, objectOf(answer));
  }

  private async asked(path: string, init: RequestInit): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), Authorization: `Bearer ${this.token}`, ...(this.language && { "Accept-Language": this.language }) };
    const seconds = init.method === "POST" ? COMMAND_S : PAGE_S;
    const answer = await this.within(seconds, this.fetch(this.base + path, { ...init, headers, cache: "no-store" }));
    if (answer.ok) return answer;
    throw new Refused(answer.status, await this.within(seconds, objectOf(answer)));
  }

  private say(message: Json): void {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message) });
  }

  private failed(error: unknown): void {
    const { problem, message } = error as Partial<Refused>;
    const code = problem?.["code"] as string, close = AUTH_CLOSES[code];
    if (close) this.say({ type: "authentication_result", success: false, code, message: "" });
    this.end(close ?? LOST, message ?? "");
  }

  private end(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.over.abort();
    queueMicrotask(() => this.onclose?.({ code, reason }));
  }
}

/** A place as text that may stand in a URL. */
function encoded(place: unknown): string {
  const bytes = new TextEncoder().encode(JSON.stringify(place));
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}

async function objectOf(answer: Response): Promise<Json> {
  const text = await answer.text();
  return text.startsWith("{") ? (JSON.parse(text) as Json) : {};
}

function place({ after }: Asked, page: Page | null): Json {
  if (!page) return { outcome: "denied", after: 0, first: 0, head: 0 };
  const begin = typeof after === "number" && page.outcome === "resumed" ? after : page.events.length > 0 ? Number(page.events[0]?.["seq"]) - 1 : page.next;
  return { outcome: page.outcome, after: begin, first: 1, head: page.next };
}

/**
 * The user that a token names, as the server says; "" if it refuses the token, which a connection then explains.
 *
 * @throws the server cannot be reached, or cannot say it now
 */
export async function whose(url: string, token: string, fetch: Fetch): Promise<string> {
  const socket = new HttpSocket(url, fetch);
  socket.token = token;
  try {
    return String(((await socket.ask("who"))["user"] as Json)["user_id"]);
  } catch (error) {
    if ((error as Refused).status < 500) return "";
    throw error;
  }
}
