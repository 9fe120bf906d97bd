// @vitest-environment happy-dom
/** Streams as values: by themselves, in Vue and in React. */

import { createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { effectScope, nextTick, ref } from "vue";
import { type Fold, MemoryCursors, type StreamEvent, watch } from "../src/index.js";
import * as react from "../src/react.js";
import * as vue from "../src/vue.js";
import { type Tab, World } from "./support/world.js";

const STREAM = "group/ops";
/** The sum of all numbers: wrong as soon as one is missing or doubled. */
const SUM: Fold<number, { numbers: number[] }> = {
  snapshot: ({ numbers }) => numbers.reduce((sum, n) => sum + n, 0),
  event: (sum, event) => sum + (event as StreamEvent & { n: number }).n,
};

let world: World;
let tab: Tab;
const until = <T,>(look: () => T): Promise<T> => vi.waitFor(look, { timeout: 2000, interval: 1 });

beforeEach(async () => {
  world = new World();
  world.append(STREAM, 3);
  tab = world.tab({ cursors: new MemoryCursors("me") });
  await until(() => expect(tab.client.state.value.name).toBe("online"));
});

test("a fold begins with the state and takes every event in", async () => {
  const sums: unknown[] = [];
  const view = watch(tab.client, STREAM, SUM);
  view.subscribe(({ value }) => sums.push(value));
  await until(() => expect(sums).toEqual([6]));
  world.append(STREAM, 2);
  await until(() => expect(view.value).toMatchObject({ value: 15, seq: 5 }));
  world.cut();
  world.append(STREAM);
  await until(() => expect(view.value).toMatchObject({ value: 21, seq: 6 }));
  view.close();
  await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(false));
});

test("a fold of a stream that may not be read has its error", async () => {
  world.connection?.model.denied.add(STREAM);
  const view = watch(tab.client, STREAM, SUM);
  await until(() => expect(view.value.error?.code).toBe("stream_denied"));
});

describe("Vue", () => {
  test("has the rows of a list for as long as its scope lives, and those of other fields after they change", async () => {
    world.log.lists.set("open", { a: 1, b: 2 });
    const scope = effectScope();
    const fields = ref({ n: 1 });
    const refs = scope.run(() => vue.useList(tab.client, "open", fields, { limit: 5 }));
    await until(() => expect(refs?.rows.value).toEqual([1, 2]));
    fields.value = { n: 2 };
    await until(() => expect(world.said("follow").at(-1)?.["fields"]).toEqual({ n: 2 }));
    scope.stop();
    await until(() => expect(world.connection?.model.views.open).toEqual([]));
  });

  test("has the value for as long as its scope lives", async () => {
    const scope = effectScope();
    const view = scope.run(() => vue.useStream(tab.client, STREAM, SUM));
    await until(() => expect(view?.value.value).toBe(6));
    world.append(STREAM);
    await until(() => expect(view?.value.value).toBe(10));
    scope.stop();
    await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(false));
  });

  test("follows another stream when its name changes", async () => {
    world.append("group/dev", 1);
    const name = ref(STREAM);
    const scope = effectScope();
    const view = scope.run(() => vue.useStream(tab.client, name, SUM));
    await until(() => expect(view?.value.value).toBe(6));
    name.value = "group/dev";
    await nextTick();
    await until(() => expect(view?.value).toMatchObject({ value: 4, seq: 1 }));
    scope.stop();
  });

  test("has the connection's state", async () => {
    const scope = effectScope();
    const state = scope.run(() => vue.useConnection(tab.client));
    expect(state?.value.name).toBe("online");
    world.cut();
    await until(() => expect(state?.value.name).toBe("offline"));
    scope.stop();
  });
});

describe("React", () => {
  const Sum = ({ stream }: { stream: string }) => {
    const { value, error } = react.useStream(tab.client, stream, { ...SUM }); // a new fold at each render
    const state = react.useConnection(tab.client);
    return createElement("p", null, `${state.name} ${error?.code ?? value}`);
  };

  test("useList renders the rows, and closes the list with the component", async () => {
    world.log.lists.set("open", { a: 1, b: 2 });
    const node = document.createElement("div");
    const root = createRoot(node);
    const Page = () => createElement("p", null, react.useList(tab.client, "open", { n: 1 }, { limit: 5 }).rows.join());
    root.render(createElement(StrictMode, null, createElement(Page)));
    await until(() => expect(node.textContent).toBe("1,2"));
    world.log.lists.set("open", { c: 3 });
    world.pump();
    await until(() => expect(node.textContent).toBe("1,2,3"));
    root.unmount();
    await until(() => expect(world.connection?.model.views.open).toEqual([]));
  });

  test("has the value for as long as the component is mounted, in strict mode too", async () => {
    const box = document.createElement("div");
    const root = createRoot(box);
    const render = (stream: string) => root.render(createElement(StrictMode, null, createElement(Sum, { stream })));
    const shown = (text: string) => until(() => expect(box.textContent).toBe(text));
    render(STREAM);
    await shown("online 6");
    world.append(STREAM);
    await shown("online 10");
    render("");
    await shown("online undefined");
    root.unmount();
    await until(() => expect(world.connection?.model.places.has(STREAM)).toBe(false));
  });
});

describe("A job", () => {
  const JOB = "job/7";
  const STATE = { name: "import", user: 42, percent: 10, message: "", status: "running", error: "" };
  const progress = (percent: number, message = ""): void => {
    world.log.append(JOB, { type: "job_progress", percent, message });
    world.pump();
  };
  beforeEach(() => {
    world.log.states.set(JOB, STATE);
    world.log.append(JOB, { type: "job_started", name: "import" });
  });

  test("is a value in Vue, and follows another number", async () => {
    const scope = effectScope();
    const id = ref<number | null>(null);
    const made = scope.run(() => vue.useJob(tab.client, id));
    expect(made?.job.value.value).toBeUndefined();
    id.value = 7;
    await nextTick();
    await until(() => expect(made?.job.value.value?.percent).toBe(10));
    progress(40, "half");
    await until(() => expect(made?.job.value.value).toMatchObject({ percent: 40, message: "half" }));
    scope.stop();
  });

  test("is a value in React, with a button that cancels it", async () => {
    const Bar = () => {
      const { value, cancel } = react.useJob(tab.client, 7);
      return createElement("button", { onClick: () => void cancel().catch(() => undefined) }, `${value?.percent ?? "-"}`);
    };
    const box = document.createElement("div");
    const root = createRoot(box);
    root.render(createElement(Bar));
    await until(() => expect(box.textContent).toBe("10"));
    progress(55);
    await until(() => expect(box.textContent).toBe("55"));
    box.querySelector("button")?.click();
    await until(() => expect(world.connection?.model.commands.at(-1)).toMatchObject({ action: "cancel_job", job_id: 7 }));
    root.unmount();
  });
});
