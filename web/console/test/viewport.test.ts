import { describe, expect, it } from "vitest";
import { follows, moved, reveal, visible } from "../src/model/viewport";

describe("visible", () => {
  it("draws what is in sight and a little beyond", () => expect(visible(10_000, 50, 5000, 500, 4)).toEqual({ first: 96, end: 114 }));
  it("ends at both ends", () => {
    expect(visible(10, 50, 0, 5000, 4)).toEqual({ first: 0, end: 10 });
    expect(visible(0, 50, 0, 500, 4)).toEqual({ first: 0, end: 0 });
  });
  it("draws the end of a list that has become short, before the browser has scrolled there", () => {
    expect(visible(3, 50, 90_000, 500, 4)).toEqual({ first: 0, end: 3 });
    expect(visible(100, 50, 90_000, 500, 4)).toEqual({ first: 86, end: 100 });
  });
});

describe("reveal", () => {
  it("stays where the line is in sight", () => expect(reveal(3, 50, 100, 500)).toBe(100));
  it("goes no further than needed", () => {
    expect(reveal(0, 50, 100, 500)).toBe(0);
    expect(reveal(20, 50, 100, 500)).toBe(550);
  });
});

describe("moved", () => {
  it.each([["ArrowDown", 6], ["ArrowUp", 4], ["PageDown", 15], ["PageUp", 0], ["Home", 0], ["End", 99]] as const)(
    "%s leads to %d", (key, to) => expect(moved(key, 5, 100, 10)).toBe(to),
  );
  it("leaves other keys alone", () => expect(moved("a", 5, 100, 10)).toBeNull());
  it("goes nowhere in an empty list", () => expect(moved("End", 0, 0, 10)).toBeNull());
});

describe("following the newest line", () => {
  it("goes on when lines came between a jump to the end and its scroll event", () => {
    expect(follows(true, false, 500, 400)).toBe(true);
  });
  it("ends when one scrolls up", () => {
    expect(follows(true, false, 399, 400)).toBe(false);
  });
  it("begins again at the end, however one got there", () => {
    expect(follows(false, true, 500, 400)).toBe(true);
    expect(follows(false, true, 300, 400)).toBe(true);
  });
  it("does not begin by scrolling down somewhere else", () => {
    expect(follows(false, false, 500, 400)).toBe(false);
  });
});
