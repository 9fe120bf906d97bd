// The suite's own runner looks for test files below node_modules, where vitest finds none; this file is not there.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.DS_URL });
