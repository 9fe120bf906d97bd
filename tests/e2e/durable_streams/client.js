// The official client writes COUNT messages as one producer and reads them as they come. The service is killed meanwhile.
// It prints `halfway`, and at the end what it read, as one line of JSON.
import { DurableStream, IdempotentProducer } from "@durable-streams/client";

const count = Number(process.env.DS_COUNT);
const url = `${process.env.DS_URL}/written/by-the-client`;
const handle = await DurableStream.create({ url, contentType: "application/json" });
const pause = () => new Promise((done) => setTimeout(done, 20));

// The client drops a batch whose request failed, so the retry is ours: the same request, until there is an answer.
const persistent = async (...request) => {
  for (;;) {
    try {
      return await fetch(...request);
    } catch {
      await pause();
    }
  }
};

let failed;
const options = { fetch: persistent, lingerMs: 0, maxBatchBytes: 64, maxInFlight: 2, onError: (error) => (failed = error) };
const producer = new IdempotentProducer(handle, "writer", options);
for (let n = 0; n < count; n++) {
  producer.append(JSON.stringify({ n }));
  if (n === count >> 1) console.log("halfway");
  if (n % 10 === 0) await pause();
}
await producer.flush();
await handle.close();
const answer = await handle.stream({ offset: "-1", live: false });
const read = await answer.json();
console.log(JSON.stringify({ read: read.map((one) => one.n), failed: failed ? String(failed) : null }));
