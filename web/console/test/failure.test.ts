import { describe, expect, it } from "vitest";
import { failureOf } from "../src/model/failure";
import { FAILURES } from "../src/words/failures";

describe("failureOf", () => {
  it("finds every kind by its message, with what the server said behind it", () => {
    for (const failure of FAILURES) {
      expect(failureOf(failure.message)).toEqual({ failure, server: "" });
      expect(failureOf(`${failure.message}: NO [ALERT] (wait): later`)).toEqual({ failure, server: "NO [ALERT] (wait): later" });
    }
  });
  it("knows nothing of other texts", () => {
    for (const text of ["", "检查完成，共 3 封新邮件", `${FAILURES[0]?.message} and more`]) expect(failureOf(text)).toBeNull();
  });
});
