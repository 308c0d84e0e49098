/**
 * Deploys a module, has it find the most frequent words of a text, and shows what an error is like.
 *
 *     node top-words.js word-count.wasm
 */

import { asText, Client, NotFound, type Queue } from "tq-client";

const text = "To be, or not to be, that is the question";

// The broker's address, the key and the namespace are what TQ_BROKER, TQ_KEY and TQ_NAMESPACE say.
const client = new Client();

const module = await client.deploy(process.argv[2]!);
console.log(`deployed ${module.name}@${module.version}`);

// Every other call of the API, with its types.
const queue: Queue = await client.answer(
  client.http.PUT("/v1/queues/{name}", { params: { path: { name: "mail" } }, body: { concurrency: 4 } }),
);
console.log(`queue ${queue.name} runs ${queue.concurrency} at once`);

// From the first message on, no end is missed.
let seq = 0;
for await (const message of client.events()) {
  seq = message.seq;
  break;
}

// Submit and wait in one.
const words = await client.run<{ word: string; count: number }[]>("word-count/top", { text, n: 2 });
for (const { word, count } of words) console.log(count, word);

// Submit now, with what a task may have, and wait later.
const bytes = new TextEncoder().encode(text);
const id = await client.submit("word-count/count", bytes, { queue: "mail", priority: 200 });
const task = await client.wait(id);
console.log(task.state, asText(task.result!));

// As a later run of this program would go on where this one was.
const ended = new Set<string>();
for await (const message of client.events({ after: seq })) {
  for (const { id } of message.ended) ended.add(id);
  if (ended.has(id)) break;
}
console.log(`${ended.size} have ended`);

try {
  await client.submit("word-count/topp", { text, n: 2 });
} catch (error) {
  if (!(error instanceof NotFound)) throw error;
  console.log(`refused: ${error.message}`);
}
