import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import vue from "@vitejs/plugin-vue";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const OUT = process.env["WEB_OUT"] ?? "../../huahuo/pages/static"; // scripts/web.sh builds elsewhere first
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The folder is shared with the built client: only what this build made before is removed. */
const forgetOldBuild: Plugin = {
  name: "forget-old-build",
  apply: "build",
  buildStart: () => rm(here(`${OUT}/assets`), { recursive: true, force: true }),
};

// The build goes where the Python package ships it from. Nothing is inlined: the page's policy allows
// scripts and styles from files only. The client is compiled from its source; only its decoder is taken as built.
export default defineConfig({
  base: "./", // the service may be mounted below a path, or behind a proxy that takes one away
  plugins: [vue(), forgetOldBuild],
  resolve: {
    alias: {
      "huahuo-client/zstd": here("../client/dist/zstd.js"), // with its WASM file next to it
      "huahuo-client/importing": here("../client/src/client/importing.ts"),
      "huahuo-client": here("../client/src/index.ts"),
    },
  },
  build: {
    outDir: here(OUT),
    emptyOutDir: false,
    license: { fileName: "licenses.md" }, // of what is bundled; the package ships it with the scripts
    target: "es2022",
    cssTarget: ["chrome123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { output: { entryFileNames: "assets/[name]-[hash].js" } },
  },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 5000,
  },
});
