/**
 * The golden conversations of tests/transcripts, played against the session: shown the `network` and
 * `server` lines, it must say the `client` lines. The transcript's client is an application too; what it
 * does (read, subscribe, command, process) is done here when its line comes.
 */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { type Check, type Cursor, cursorAt } from "../src/model/model.js";
import { Retry } from "../src/session/retry.js";
import { Session } from "../src/session/session.js";

type Frame = Record<string, unknown>;
interface Step { at_ms: number; from: "network" | "client" | "server" | "world"; frame: Frame }
interface Resume { log: string | null; cursors: Record<string, number>; checks?: Record<string, Check> }

const FOLDER = fileURLToPath(new URL("../../../tests/transcripts/", import.meta.url));
const OWN = ["user/42", "system"];

const read = (name: string): Step[] =>
  readFileSync(FOLDER + name, "utf8").trim().split("\n").slice(1).map((line) => JSON.parse(line) as Step);

/** A message with what may be left out written out, and without what is the client's own business. */
function normal(frame: Frame): Frame {
  const { id: _id, ...rest } = frame;
  if (frame["action"] === "subscribe") return { after: "head", ...rest };
  if (frame["action"] === "unsubscribe" || frame["action"] === "heartbeat") return rest;
  if (frame["action"] !== "authenticate") return frame;
  const first = "client" in frame;
  return first ? { window: 512, parts: true, resume: { log: null, cursors: {} }, ...rest } : rest;
}

/** What no right client says: the line is there to show how a server answers. */
const isFault = (frame: Frame, received: ReadonlyMap<string, number>): boolean =>
  (frame["action"] === "subscribe" && typeof frame["stream"] !== "string") ||
  (frame["action"] === "ack" &&
    Object.entries(frame["cursors"] as Record<string, number>).some(([name, seq]) => seq > (received.get(name) ?? 0)));

class Player {
  session!: Session;
  said: Frame[] = [];
  compared = 0;
  pages = 0;
  connections = 0;
  private heartbeats = false;
  private now = 0;
  /** Where this page would go on by itself. */
  private resume: Resume = { log: null, cursors: {} };
  private readonly told = new Map<string, Check>();
  private readonly received = new Map<string, number>();
  private readonly ids = new Map<string, string>();
  private readers = new Map<string, string>();
  private count = 0;

  constructor(private readonly steps: Step[]) {}

  play(): void {
    this.steps.forEach((step, index) => {
      this.passTo(step.at_ms);
      if (step.from === "network") this.network(step.frame, index);
      else if (step.from === "client") this.client(step.frame);
      else if (step.from === "server") this.server(step.frame);
      this.listen();
    });
    expect(this.said.filter(({ action }) => action !== "ack"), "it says no more than it should").toEqual([]);
  }

  private network(frame: Frame, index: number): void {
    if (frame["event"] !== "open") {
      this.session.closed((frame["code"] as number | undefined) ?? null, "", this.now);
      return;
    }
    this.connections += 1;
    const next = this.steps.slice(index).find(({ from }) => from === "client")?.frame ?? {};
    const wanted = normal(next)["resume"] as Resume;
    if (!this.session || JSON.stringify(this.resume) !== JSON.stringify(wanted)) this.newPage(wanted, next["window"] as number);
    this.session.connected(next["token"] as string, this.now);
  }

  private newPage(resume: Resume, window = 512): void {
    this.pages += 1;
    this.resume = resume;
    this.readers.clear();
    this.session = new Session({
      client: "dev-7f3a", prefix: `page${this.pages}`, window, messagesPerS: 0, retry: new Retry(() => 0.5),
    });
    for (const name of new Set([...OWN, ...Object.keys(resume.cursors)])) {
      const seq = resume.cursors[name];
      this.attach(name, "head", seq === undefined ? null : cursorAt(resume.log as string, seq, resume.checks?.[name]));
    }
  }

  private attach(stream: string, after: "head" | "start" | "snapshot", cursor: Cursor | null): void {
    const before = this.readers.get(stream);
    const reader = `r${++this.count}`;
    this.readers.set(stream, reader);
    this.session.attach(reader, stream, after, cursor);
    if (before) this.session.detach(before); // the new one first: the stream stays subscribed
  }

  private client(frame: Frame): void {
    if (isFault(frame, this.received)) return;
    this.listen();
    if (frame["action"] === "ack") {
      this.process(frame["cursors"] as Record<string, number>);
      return;
    }
    if (!this.matches(frame)) this.act(frame);
    this.listen();
    const index = this.said.findIndex(({ action }) => action !== "ack");
    const [heard] = index < 0 ? [undefined] : this.said.splice(index, 1);
    expect(heard && normal(heard)).toEqual(normal(frame));
    this.compared += 1;
    if (frame["id"] && heard?.["id"]) this.ids.set(frame["id"] as string, heard["id"] as string);
  }

  private matches(frame: Frame): boolean {
    return this.said.some((one) => JSON.stringify(normal(one)) === JSON.stringify(normal(frame)));
  }

  private act(frame: Frame): void {
    const { action, stream, after, log } = frame as Record<string, string>;
    switch (action) {
      case "authenticate":
        this.session.authenticateAgain(frame["token"] as string);
        return;
      case "subscribe":
        if (typeof after === "number") this.attach(stream as string, "head", { log: log as string, seq: after });
        else this.attach(stream as string, (after ?? "head") as "head", null);
        return;
      case "unsubscribe":
        this.session.detach(this.readers.get(stream as string) as string);
        return;
      case "heartbeat":
        this.heartbeats = true;
        this.session.probe(this.now);
        this.listen();
        this.heartbeats = false;
        return;
      default:
        this.session.command(frame["id"] as string, JSON.stringify(frame));
    }
  }

  /** The application is done with everything up to there; the session says so in its own time. */
  private process(cursors: Record<string, number>): void {
    for (const [stream, seq] of Object.entries(cursors)) {
      const reader = this.readers.get(stream) as string;
      for (let item = this.session.take(reader, this.now); item; item = this.session.take(reader, this.now)) {
        this.session.processed(reader, this.session.eraOf(reader), item.last);
        this.resume.cursors[stream] = item.last;
        this.checked(stream);
        if (item.last >= seq) break;
      }
    }
  }

  private server(frame: Frame): void {
    const own = typeof frame["id"] === "string" ? (this.ids.get(frame["id"]) ?? frame["id"]) : undefined;
    this.session.received(JSON.stringify(own === undefined ? frame : { ...frame, id: own }), this.now);
    const { type, stream, seq } = frame as { type: string; stream: string; seq: number };
    if (type === "events") this.received.set(stream, seq + (frame["events"] as unknown[]).length - 1);
    if (type === "snapshot") this.received.set(stream, seq);
    if (frame["check"]) this.told.set(stream, [seq, frame["check"] as string]);
    if (frame["check"] && type === "live") this.checked(stream);
    if (type === "authentication_result" && frame["success"]) {
      this.resume.log ??= frame["log"] as string;
      for (const [name, place] of Object.entries(frame["streams"] as Record<string, { outcome: string; after: number }>)) {
        if (place.outcome === "fresh") this.resume.cursors[name] = place.after;
      }
    }
  }

  /** A check is gone on from once the page got to its place. */
  private checked(stream: string): void {
    const told = this.told.get(stream);
    if (!told || (this.resume.cursors[stream] ?? -1) < told[0]) return;
    this.resume.checks = { ...this.resume.checks, [stream]: told };
    this.told.delete(stream);
  }

  private passTo(at: number): void {
    for (let due = this.session?.deadline(); due !== undefined && due <= at; due = this.session.deadline()) {
      this.now = Math.max(this.now, due);
      this.session.tick(this.now);
      this.listen();
      if (this.session.dead) break;
    }
    this.now = at;
  }

  private listen(): void {
    for (const text of this.session?.outgoing(this.now) ?? []) {
      const message = JSON.parse(text) as Frame;
      // between the lines a client asks by itself whether anybody is there; any server would answer
      if (message["action"] !== "heartbeat" || this.heartbeats) this.said.push(message);
      else this.session.received('{"type":"heartbeat_response"}', this.now);
    }
  }
}

const names = readdirSync(FOLDER).filter((name) => name.endsWith(".jsonl"));
const offered = (name: string) => read(name).find(({ from }) => from === "network")?.frame["subprotocol"];
const spoken = names.filter((name) => offered(name) === "huahuo.v1");

test("there are conversations to play", () => expect(spoken.length).toBeGreaterThanOrEqual(10));

test("some of them go on over connections without a new page", () => {
  const players = spoken.map((name) => new Player(read(name)));
  players.forEach((player) => player.play());
  expect(players.filter(({ pages, connections }) => connections > pages).length).toBeGreaterThanOrEqual(4);
});

test.each(spoken)("%s", (name) => {
  const player = new Player(read(name));
  player.play();
  expect(player.compared).toBeGreaterThan(0);
});
