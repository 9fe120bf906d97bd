import { defineConfig } from "vite";

// `huahuo-client/zstd` as one script and one WASM file next to it, found by the script's own address: with
// and without a bundler, and under a policy that allows no data: addresses. (vite's library mode would put
// the WASM into the script as one.)
export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    emptyOutDir: false,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    rolldownOptions: {
      input: "src/wire/zstd.ts",
      preserveEntrySignatures: "strict",
      output: {
        entryFileNames: "zstd.js",
        assetFileNames: "zstd.wasm",
        postBanner: "/*! contains @bokuweb/zstd-wasm (MIT) and Zstandard (BSD-3-Clause) */",
      },
    },
  },
});
