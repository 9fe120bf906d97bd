/** What a user of the package downloads: how much, from whom, and only what is used. */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { build } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The bundle of a module that consists of `source`. */
async function bundle(source: string): Promise<string> {
  const built = await build({
    configFile: false,
    root: here(".."),
    logLevel: "error",
    plugins: [{
      name: "entry",
      resolveId: (id: string) => (id === "entry.ts" || id.endsWith("/entry.ts") ? here("../src/entry.ts") : null),
      load: (id: string) => (id.endsWith("/src/entry.ts") ? source : null),
    }],
    build: {
      write: false, target: "es2022", minify: true,
      rolldownOptions: { output: { minify: true } },
      lib: { entry: here("../src/entry.ts"), formats: ["es"] },
    },
  });
  const [{ output }] = built as unknown as [{ output: [{ code: string }] }];
  return output[0].code;
}
const zipped = (code: string) => gzipSync(code, { level: 9 }).length;

test("the protocol alone is under 9 kB", async () => {
  expect(zipped(await bundle('export * from "./core.js";'))).toBeLessThan(9_000);
});

test("everything is under 22 kB", async () => {
  expect(zipped(await bundle('export * from "./index.js";'))).toBeLessThan(22_000);
});

test.each([
  ["huahuo-client/core", "./core.js"],
  ["huahuo-client", "./index.js"],
  ["huahuo-client/importing", "./client/importing.js"],
])("the README says how large %s is", async (name, module) => {
  const told = readFileSync(here("../README.md"), "utf8").match(new RegExp(`\\| \`${name}\` \\| ([\\d.]+) kB`));
  const kB = zipped(await bundle(`export * from "${module}";`)) / 1000;
  expect(Math.abs(kB - Number(told?.[1])), `${kB} kB`).toBeLessThan(0.6);
});

test("what is not used is left out", async () => {
  const code = await bundle('export { Session } from "./core.js";');
  expect(code).not.toMatch(/WebSocket|indexedDB|BroadcastChannel/);
  expect(zipped(await bundle('export { HuahuoError } from "./index.js";'))).toBeLessThan(500);
});

test("nothing is needed at run time but by the modules that are for it", () => {
  const needs: Record<string, string[]> = {
    
    "vue.ts": ["vue"], "react.ts": ["react"], "wire/zstd.ts": ["@bokuweb/zstd-wasm"],
  };
  for (const name of readdirSync(here("../src"), { recursive: true, encoding: "utf8" })) {
    if (!/\.tsx?$/.test(name)) continue;
    const imports = [...readFileSync(here(`../src/${name}`), "utf8").matchAll(/from "([^"]+)"/g)].map(([, from]) => from as string);
    const foreign = imports.filter((from) => !from.startsWith("."));
    expect(foreign, name).toEqual(needs[name] ?? []);
  }
});

test("the session and what it is made of see no socket, clock or chance", () => {
  for (const name of ["session/session", "session/acks", "session/streams", "session/commands", "session/retry", "wire/wire", "wire/kinds", "model/codes", "wire/address", "client/checks"]) {
    const source = readFileSync(here(`../src/${name}.ts`), "utf8").replace(/\/\*\*[^]*?\*\/|\/\/.*/g, "");
    expect(source, name).not.toMatch(/\b(WebSocket|setTimeout|Date|performance|Math\.random|crypto|window\.|document)\b/);
  }
});

test("what the README imports is there", async () => {
  const modules: Record<string, () => Promise<object>> = {
    "huahuo-client": () => import("../src/index.js"),
    "http://127.0.0.1:8765/client/huahuo-client.js": () => import("../src/index.js"),
    "huahuo-client/vue": () => import("../src/vue.js"),
    "huahuo-client/react": () => import("../src/react.js"),
    "huahuo-client/importing": () => import("../src/client/importing.js"),
  };
  const imports = [...readFileSync(here("../README.md"), "utf8").matchAll(/import \{ ([^}]+) \} from "([^"]+)"/g)];
  expect(imports.length).toBeGreaterThan(1);
  for (const [, names, from] of imports) {
    const found = await (modules[from as string] as () => Promise<object>)();
    for (const name of (names as string).split(", ").filter((name) => !name.startsWith("type "))) expect(Object.keys(found), from).toContain(name);
  }
});
