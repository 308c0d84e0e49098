import createFetchClient from "openapi-fetch";

import { refusal, refused, Refused, TaskFailed, TqError, Unreachable } from "./errors.js";
import type {
  FollowTaskResponse,
  Module,
  NewTask,
  paths,
  Problem,
  Submitted,
  Task,
  UploadHeader,
  UploadModuleResponse,
  WatchTasksResponse,
} from "./schema.js";
import * as wire from "./wire.js";

/** How a broker is called. */
export interface Settings {
  /** A key or token; what `TQ_KEY` says by default. */
  key?: string;
  /** The namespace; what `TQ_NAMESPACE` says by default, and otherwise the key's, or `default`. */
  namespace?: string;
  /** Lets the key go over a network without TLS. */
  plaintext?: boolean;
  /** What sends requests, such as a `fetch` that trusts other authorities. */
  fetch?: typeof fetch;
}

/** What can be stopped from outside. */
interface Stoppable {
  signal?: AbortSignal;
}

/**
 * One broker, in one namespace. The address is what `TQ_BROKER` says by default.
 *
 * Methods throw `Unreachable` where the broker cannot be reached, and `Refused` where it says no.
 */
export class Client {
  readonly url: string;
  readonly namespace: string | undefined;
  /**
   * Every call of the OpenAPI document, with its types; {@link answer} makes an exception of a refusal:
   *
   *     const queue = await client.answer(client.http.GET("/v1/queues/{name}", { params: { path: { name: "mail" } } }));
   *
   * The namespace is the credential's unless the query has one.
   */
  readonly http: ReturnType<typeof createFetchClient<paths>>;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof fetch;

  constructor(url?: string, { key, namespace, plaintext = false, fetch = globalThis.fetch }: Settings = {}) {
    const address = wire.setting(url, "TQ_BROKER") ?? wire.ADDRESS;
    this.url = (address.includes("://") ? address : `http://${address}`).replace(/\/+$/, "");
    this.namespace = wire.setting(namespace, "TQ_NAMESPACE");
    const credential = wire.setting(key, "TQ_KEY");
    const { protocol, hostname } = new URL(this.url);
    if (credential && protocol !== "https:" && !wire.isLoopback(hostname) && !plaintext) {
      throw new TqError(`the key would go to \`${this.url}\` without TLS, so that others on the way could read it`);
    }
    this.#headers = credential ? { authorization: `Bearer ${credential}` } : {};
    this.#fetch = (...request) => fetch(...request);
    this.http = createFetchClient<paths>({ baseUrl: this.url, headers: this.#headers, fetch: this.#fetch });
  }

  /**
   * Submits a call of `MODULE/FUNCTION` and returns the task's id. The task is on disk by then.
   *
   * The payload is any value, which goes as JSON, or a `Uint8Array`, which goes as it is. After `Unreachable`, only a task with an
   * `idempotency_key` can be submitted again without the danger that it comes twice.
   */
  async submit(name: string, payload?: unknown, options: wire.TaskOptions = {}): Promise<string> {
    const [submitted] = await this.submitMany([wire.newTask(name, payload, options)]);
    return submitted!.id;
  }

  /** Submits at most 1,000 tasks, all of them or none, and returns their ids in the same order. */
  async submitMany(tasks: NewTask[]): Promise<Submitted[]> {
    const params = { query: this.#query({}) };
    return (await this.answer(this.http.POST("/v1/tasks", { params, body: { tasks } }))).tasks;
  }

  /** A task as it is now, with its result. */
  async task(id: string): Promise<Task> {
    const params = { path: { id }, query: this.#query({ include_result: true }) };
    return this.answer(this.http.GET("/v1/tasks/{id}", { params }));
  }

  /** Cancels a task: one that waits has ended by then, one that runs was told to stop. */
  async cancel(id: string): Promise<Task> {
    const params = { path: { id }, query: this.#query({}) };
    return this.answer(this.http.POST("/v1/tasks/{id}/cancel", { params, body: {} }));
  }

  /** Waits until a task has ended, however it did, and returns it with its result. Goes on when the broker restarts. */
  async wait(id: string, { signal }: Stoppable = {}): Promise<Task> {
    const query = this.#query({ ids: id, include_result: "true" });
    const hasEnded = (message: WatchTasksResponse) => message.ended.length > 0;
    for await (const { ended } of this.#stream("/v1/tasks/events", query, hasEnded, signal)) {
      const [task] = ended;
      if (task) return task;
    }
    throw new Error("a watch goes on until its task has ended");
  }

  /**
   * Submits a task, waits for it and returns its result: read as JSON or, if the payload is a `Uint8Array`, as it is. Throws
   * `TaskFailed` if it ends without success.
   */
  run(name: string, payload: Uint8Array, options?: wire.TaskOptions & Stoppable): Promise<Uint8Array>;
  run<T = unknown>(name: string, payload?: unknown, options?: wire.TaskOptions & Stoppable): Promise<T>;
  async run(name: string, payload?: unknown, options: wire.TaskOptions & Stoppable = {}): Promise<unknown> {
    const { signal, ...rest } = options;
    const task = await this.wait(await this.submit(name, payload, rest), signal ? { signal } : {});
    if (task.state !== "succeeded") throw new TaskFailed(task);
    const result = task.result ?? "";
    return payload instanceof Uint8Array ? wire.asBytes(result) : JSON.parse(wire.asText(result));
  }

  /**
   * The ends of all tasks of the namespace, as they come; it never ends by itself.
   *
   * Each message has the tasks that have `ended`, of which there may be none, and the `seq` that `after` takes to go on there in a later
   * call. Without `after` it is from now on, which is when the first message comes. When the connection is lost or the broker restarts
   * it goes on: no end is missed, and none comes twice.
   */
  async *events(
    { after, includeResult = false, signal }: { after?: number; includeResult?: boolean } & Stoppable = {},
  ): AsyncGenerator<WatchTasksResponse, void> {
    const query = this.#query({ include_result: `${includeResult}`, ...(after === undefined ? {} : { after_seq: `${after}` }) });
    const once = new wire.Once();
    const never = (_: WatchTasksResponse) => false;
    for await (const message of this.#stream("/v1/tasks/events", query, never, signal)) yield once.onlyNew(message);
  }

  /** What becomes of a task until it has ended: its states, its progress and its log. Goes on when the broker restarts. */
  follow(
    id: string,
    { includeLog = true, signal }: { includeLog?: boolean } & Stoppable = {},
  ): AsyncGenerator<FollowTaskResponse, void> {
    const path = `/v1/tasks/${encodeURIComponent(id)}/events`;
    const hasEnded = ({ task }: FollowTaskResponse) => (task?.ended_ms ?? 0) > 0;
    return this.#stream(path, this.#query({ include_log: `${includeLog}` }), hasEnded, signal);
  }

  /**
   * Uploads a component, from a file or from memory, as the next version of a module; the same bytes with the same settings make no
   * other version. The module is on the broker's disk by then.
   *
   * Without a name it is the file's. `settings` are what `tq.toml` would say, such as `{ limits: …, grants: … }`.
   */
  async deploy(component: string | Uint8Array<ArrayBuffer>, name?: string, settings?: UploadHeader): Promise<Module> {
    let content: Uint8Array<ArrayBuffer>;
    if (typeof component === "string") {
      name ??= wire.moduleName(component);
      const { readFile } = await import("node:fs/promises");
      content = Uint8Array.from(await readFile(component));
    } else {
      content = component;
    }
    if (name === undefined) throw new TypeError("a component from memory needs a name for its module");
    const query = this.#query(settings === undefined ? {} : { settings: JSON.stringify(settings) });
    const response = await this.#send(`/v1/modules/${encodeURIComponent(name)}?${new URLSearchParams(query)}`, {
      method: "PUT",
      headers: { "content-type": "application/wasm", "content-digest": await wire.digest(content) },
      body: content,
    });
    return ((await response.json()) as UploadModuleResponse).module!;
  }

  /** What a call of {@link http} answers with. */
  async answer<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
    const { data, error, response } = await call.catch((error: unknown) => {
      throw this.#unreachable(error);
    });
    if (response.ok) return data as T;
    const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
    throw isProblem ? refused(error as Problem) : await refusal(new Response(null, response));
  }

  #query<T extends object>(query: T): T & { namespace?: string } {
    return this.namespace === undefined ? query : { namespace: this.namespace, ...query };
  }

  async #send(path: string, request: RequestInit): Promise<Response> {
    const headers = { ...this.#headers, ...(request.headers as Record<string, string>) };
    const response = await this.#fetch(this.url + path, { ...request, headers }).catch((error: unknown) => {
      request.signal?.throwIfAborted();
      throw this.#unreachable(error);
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /**
   * The messages of a stream until the one that `isLast`, and those behind it. It is opened again behind the last message when it
   * was lost.
   */
  async *#stream<T>(
    path: string,
    query: Record<string, string>,
    isLast: (message: T) => boolean,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<T, void> {
    const patience = new wire.Patience();
    let seen = "";
    let hasLast = false;
    while (!hasLast) {
      let lost: TqError = new Unreachable(`broker at \`${this.url}\` has ended the stream`);
      const silence = new wire.Silence(signal);
      try {
        const response = await this.#send(`${path}?${new URLSearchParams(query)}`, {
          headers: seen ? { "last-event-id": seen } : {},
          signal: silence.signal,
        });
        for await (const event of wire.events(silence.heard(response.body!))) {
          if (event.name === "problem") throw refused(event.data as Problem);
          if (event.name === "end") break;
          patience.renew();
          seen = event.id || seen;
          const message = event.data as T;
          hasLast ||= isLast(message);
          yield message;
        }
      } catch (error) {
        signal?.throwIfAborted();
        lost = error instanceof Refused ? error : this.#unreachable(error);
      } finally {
        silence.end();
      }
      if (!hasLast) await patience.after(lost, signal);
    }
  }

  #unreachable(error: unknown): Unreachable {
    if (error instanceof Unreachable) return error;
    // `fetch` only says that it failed; why is the cause.
    const { message, cause } = error as Error;
    const reason = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : message;
    return new Unreachable(`broker at \`${this.url}\` cannot be reached: ${reason}`, { cause: error });
  }
}
