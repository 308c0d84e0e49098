/**
 * The client of tq: submit tasks, wait for them, follow them, deploy modules.
 *
 *     const client = new Client("http://127.0.0.1:7171");
 *     console.log(await client.run("greet", { name: "Ada" }));
 */

export { Client, type Settings } from "./client.js";
export { NotFound, Overloaded, Refused, TaskFailed, TqError, Unreachable } from "./errors.js";
export type * from "./schema.js";
export { asBytes, asText, type TaskOptions } from "./wire.js";
