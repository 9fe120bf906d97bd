/** A job as a value: its progress, its end, and its cancel. */

import { beforeEach, expect, test } from "vitest";
import { hasEnded, MemoryCursors } from "../src/index.js";
import { until } from "./support/claims.js";
import { type Tab, World } from "./support/world.js";

const STREAM = "job/7";
const STATE = { name: "import", user: 42, percent: 10, message: "1 of 10", status: "running", error: "" };

let world: World;
let tab: Tab;

beforeEach(async () => {
  world = new World();
  world.log.states.set(STREAM, STATE);
  world.log.append(STREAM, { type: "job_started", name: "import" });
  tab = world.tab({ cursors: new MemoryCursors("me") });
  await until(() => expect(tab.client.state.value.name).toBe("online"));
});

const happens = (type: string, fields: object) => {
  world.log.append(STREAM, { type, ...fields });
  world.pump();
};

test("it begins with the state and follows progress, messages and the end, over a lost connection", async () => {
  const job = tab.client.job(7);
  await until(() => expect(job.value.value).toEqual({ name: "import", percent: 10, message: "1 of 10", status: "running", error: "" }));
  happens("job_progress", { percent: 40, message: "" });
  await until(() => expect(job.value.value).toMatchObject({ percent: 40, message: "1 of 10" }));
  world.cut();
  happens("job_message", { message: "two rows were odd" });
  happens("job_ended", { outcome: "failed", error: "KeyError", message: "" });
  await until(() => expect(job.value.value).toMatchObject({ status: "failed", error: "KeyError", message: "two rows were odd" }));
  job.close();
  await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(false));
});

test("a cancel is a command, and the job tells when it follows", async () => {
  const job = tab.client.job(7);
  await until(() => expect(job.value.value?.status).toBe("running"));
  await job.cancel();
  expect(world.connection?.model.commands.at(-1)).toMatchObject({ action: "cancel_job", job_id: 7 });
  happens("job_cancel_requested", { by: 42 });
  await until(() => expect(job.value.value?.status).toBe("cancelling"));
  happens("job_ended", { outcome: "cancelled", error: "", message: "" });
  await until(() => expect(job.value.value?.status).toBe("cancelled"));
});

test("an end is one of four", () => {
  expect((["running", "cancelling", "done", "failed", "cancelled", "interrupted"] as const).filter(hasEnded))
    .toEqual(["done", "failed", "cancelled", "interrupted"]);
});

test("a job that may not be read has its error", async () => {
  world.connection?.model.denied.add(STREAM);
  const job = tab.client.job(7);
  await until(() => expect(job.value.error?.code).toBe("stream_denied"));
});
