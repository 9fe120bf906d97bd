import { describe, expect, it } from "vitest";
import { Rates } from "../src/model/rates";

describe("Rates", () => {
  it("has a column for each second that is over, also for silent ones", () => {
    const rates = new Rates(4);
    rates.add(10_100, 3, 20);
    rates.add(10_900, 1, 40);
    rates.add(12_000, 5, null);
    expect(rates.series(13_500)).toEqual({
      at: [9, 10, 11, 12], count: [0, 4, 0, 5], medianMs: [null, 40, null, null], maxMs: [null, 40, null, null],
    });
  });
  it("takes a clock that is behind for no delay", () => {
    const rates = new Rates(2);
    rates.add(1_000, 1, -30);
    expect(rates.series(2_000).medianMs.at(-1)).toBe(0);
  });
  it("forgets what is past and holds a bounded number of samples", () => {
    const rates = new Rates(2);
    for (let i = 0; i < 10_000; i += 1) rates.add(1_000, 1, i);
    expect(rates.series(2_000).maxMs.at(-1)).toBe(255);
    expect(rates.series(90_000).count).toEqual([0, 0]);
  });
});
