/** Whether and when the client comes back. */

import { describe, expect, test } from "vitest";
import { CLOSES } from "../src/model/codes.js";
import { Retry } from "../src/session/retry.js";

const retry = (chance = 0.5) => new Retry(() => chance);
const ended = (rule: string) => CLOSES.filter((fact) => fact[2] === rule).map(([code]) => code);

test("the delay is anything up to twice the last, from half a second to twenty", () => {
  const most = retry(0.999999);
  const delays = Array.from({ length: 8 }, () => Math.round(most.closed(null, 0).delayMs));
  expect(delays).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  expect(retry(0).closed(null, 0).delayMs).toBe(0);
});

test("a connection that held five seconds begins the back-off anew, a shorter one does not", () => {
  const one = retry(0.999999);
  one.closed(null, 0);
  one.closed(null, 0);
  one.online(0);
  expect(Math.round(one.closed(null, 4_999).delayMs)).toBe(2000);
  one.online(10_000);
  expect(Math.round(one.closed(null, 15_000).delayMs)).toBe(500);
});

describe("after a close", () => {
  test.each(ended("reconnect"))("with %d it comes back", (code) => {
    expect(retry().closed(code, 0)).toMatchObject({ stop: false, newToken: false });
  });

  test.each(ended("stop"))("with %d it stops", (code) => {
    expect(retry().closed(code, 0)).toMatchObject({ stop: true, code });
  });

  test.each(ended("reconnect_slowly"))("with %d it waits thirty seconds or more", (code) => {
    expect(retry(0).closed(code, 0).delayMs).toBe(30_000);
  });

  test("with 4003 it wants a new token, or stops where none can be had", () => {
    expect(retry().closed(4003, 0)).toMatchObject({ stop: false, newToken: true });
    expect(new Retry(() => 0.5, 500, 20_000, false).closed(4003, 0).stop).toBe(true);
  });

  test("with a code of a newer server it stops from 4500 on", () => {
    expect([4499, 4500, 4999].map((code) => retry().closed(code, 0).stop)).toEqual([false, true, true]);
  });

  test("it keeps to the span that the server named, once", () => {
    const one = retry(0);
    expect(one.closed(4000, 0, [3, 9]).delayMs).toBe(3000);
    expect(one.closed(4000, 0, [3, 9]).delayMs).toBe(0);
  });
});
