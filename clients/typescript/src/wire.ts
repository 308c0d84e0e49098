/** What is written and read, apart from any connection. */

import { Refused, type TqError } from "./errors.js";
import type { Bytes, NewTask, Task, WatchTasksResponse } from "./schema.js";

export const ADDRESS = "http://127.0.0.1:7171";

/** A stream without a word for so long is taken for lost: the broker says something every 15 s. */
export const SILENCE_MS = 45_000;

/** How long a broker may be away before a stream gives up: long enough for a restart. */
const AWAY_MS = 60_000;

const PAUSE_FIRST_MS = 50;
const PAUSE_MAX_MS = 1_000;

/** What may be said of a task beside its function and its payload. */
export type TaskOptions = Omit<NewTask, "function" | "payload">;

/** What was given, or what the environment has, where there is one; empty is nothing. */
export function setting(given: string | undefined, variable: string): string | undefined {
  const environment = typeof process === "undefined" ? undefined : process.env;
  return (given ?? environment?.[variable]) || undefined;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(\.\d+){3}$/.test(host);
}

/** A task. Its payload is any value as JSON, and bytes as they are. */
export function newTask(name: string, payload: unknown, options: TaskOptions): NewTask {
  const task: NewTask = { ...options, function: name };
  if (payload instanceof Uint8Array) return { ...task, payload: { base64: base64(payload) } };
  return payload === undefined ? task : { ...task, payload: { json: payload } };
}

/** The bytes of a payload, a result or a value of a bucket, as answers have them. */
export function asBytes(value: Bytes): Uint8Array {
  if (typeof value === "string") return new TextEncoder().encode(value);
  if ("base64" in value) return Uint8Array.from(atob(value.base64), (char) => char.charCodeAt(0));
  return new TextEncoder().encode(JSON.stringify(value.json));
}

/** The text of a payload, a result or a value of a bucket, as answers have them. */
export function asText(value: Bytes): string {
  return typeof value === "string" ? value : new TextDecoder().decode(asBytes(value));
}

export function base64(bytes: Uint8Array): string {
  // In parts, since there are only so many arguments to a call.
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** What `content-digest` says of an upload (RFC 9530). */
export async function digest(component: Uint8Array<ArrayBuffer>): Promise<string> {
  const sha256 = await crypto.subtle.digest("SHA-256", component);
  return `sha-256=:${base64(new Uint8Array(sha256))}:`;
}

/** The name of a module by its file: `word_count.wasm` is `word-count`. */
export function moduleName(path: string): string {
  const file = path.split(/[/\\]/).at(-1) ?? path;
  return file.replace(/\.[^.]*$/, "").replaceAll("_", "-");
}

/** A server-sent event. */
export interface Event {
  name: string;
  id: string;
  data: unknown;
}

/** Reads server-sent events. */
export async function* events(body: ReadableStream<string>): AsyncGenerator<Event, void> {
  let text = "";
  for await (const part of chunks(body)) {
    text += part;
    let end: number;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const fields: Record<string, string> = {};
      for (const line of text.slice(0, end).split("\n")) {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
        // The broker writes the data of an event in one line. What begins with a colon only keeps the connection up.
        if (name && value !== undefined) fields[name] = value;
      }
      text = text.slice(end + 2);
      if (fields.data !== undefined) {
        yield { name: fields.event ?? "", id: fields.id ?? "", data: JSON.parse(fields.data) };
      }
    }
  }
}

/** A stream as something to iterate over, which not every browser has; it is cancelled when that ends early. */
async function* chunks(body: ReadableStream<string>): AsyncGenerator<string, void> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** How long and how often a stream is opened again. */
export class Patience {
  #giveUp = 0;
  #pause = 0;

  constructor() {
    this.renew();
  }

  /** The broker is there. */
  renew(): void {
    this.#giveUp = performance.now() + AWAY_MS;
    this.#pause = PAUSE_FIRST_MS;
  }

  /** Pauses after an error. Throws it if another try would not go better, or the broker has been away for too long. */
  async after(error: TqError, signal: AbortSignal | undefined): Promise<void> {
    let pause = this.#pause;
    if (error instanceof Refused) {
      if (!error.isRetryable) throw error;
      pause = error.retryAfterMs ?? pause;
    }
    if (performance.now() + pause >= this.#giveUp) throw error;
    this.#pause = Math.min(this.#pause * 2, PAUSE_MAX_MS);
    await sleep(pause, signal);
  }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
  signal?.throwIfAborted();
}

/** Drops what a stream of ends tells again after a connection was lost: ends of a commit that was told in part. */
export class Once {
  #seq: number | undefined;
  readonly #ahead = new Set<string>();

  onlyNew(message: WatchTasksResponse): WatchTasksResponse {
    const end = (task: Task) => `${task.id} ${task.ended_ms}`;
    const ended = message.ended.filter((task) => !this.#ahead.has(end(task)));
    if (message.seq === this.#seq) {
      for (const task of ended) this.#ahead.add(end(task));
    } else {
      this.#seq = message.seq;
      this.#ahead.clear();
    }
    return { ...message, ended };
  }
}

/** Stops a request that is stopped from outside, or of which nothing was heard for too long. */
export class Silence {
  readonly #stop = new AbortController();
  readonly signal: AbortSignal;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(outside: AbortSignal | undefined) {
    this.signal = outside ? AbortSignal.any([outside, this.#stop.signal]) : this.#stop.signal;
    this.#wait();
  }

  /** The text of a body, each part of which is something heard. */
  heard(body: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStream<string> {
    const hear = new TransformStream<string, string>({
      transform: (part, controller) => {
        this.#wait();
        controller.enqueue(part);
      },
    });
    return body.pipeThrough(new TextDecoderStream()).pipeThrough(hear);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  #wait(): void {
    clearTimeout(this.#timer);
    const silent = new Error(`nothing was heard for ${SILENCE_MS / 1000} s`);
    this.#timer = setTimeout(() => this.#stop.abort(silent), SILENCE_MS);
  }
}
