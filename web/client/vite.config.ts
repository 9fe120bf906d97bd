import { defineConfig } from "vitest/config";

// The npm package itself is what tsc emits (one module a file, so that bundlers can shake it); this
// makes the one file for a page without a bundler, which the Python server offers under /client/.
export default defineConfig({
  build: {
    outDir: "dist",
    emptyOutDir: false,
    target: "es2022",
    minify: true,
    // (of an ES library vite itself keeps the spaces)
    rolldownOptions: { output: { minify: true } },
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => "huahuo-client.js" },
  },
  test: { include: ["test/**/*.test.{ts,tsx}"], testTimeout: 5000 },
});
