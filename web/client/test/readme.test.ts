/** The TypeScript of the README is right; its pages are opened in tests/browser/test_readme_pages.py. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const blocks = [...readFileSync(here("../README.md"), "utf8").matchAll(/```ts\n([^]*?)```/g)].map(([, code]) => code as string);

test("its blocks of TypeScript, read as one module, have no error of type", { timeout: 30_000 }, () => {
  expect(blocks.length).toBeGreaterThan(4);
  const name = here("../readme.ts");
  const options: ts.CompilerOptions = {
    strict: true, noEmit: true, skipLibCheck: true, types: [],
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts", "lib.dom.asynciterable.d.ts"],
    paths: { "huahuo-client": [here("../src/index.ts")], "huahuo-client/importing": [here("../src/client/importing.ts")] },
  };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (file, version) =>
    file === name ? ts.createSourceFile(file, blocks.join("\n"), version) : read(file, version);
  const program = ts.createProgram([name], options, host);
  const found = ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  expect(found).toEqual([]);
});
