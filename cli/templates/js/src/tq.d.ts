// What a module imports of tq, for editors: wit/deps/tq-task/task.wit has all of it, with explanations.
declare module "tq:task/runtime@0.1.0" {
  type Level = "trace" | "debug" | "info" | "warn" | "error";
  export function taskId(): string;
  export function attempt(): number;
  export function maxAttempts(): number;
  export function namespace(): string;
  export function contentType(): string;
  export function deadlineMs(): bigint | undefined;
  export function traceparent(): string | undefined;
  export function progress(fraction: number, note: string): void;
  export function checkpointSave(state: Uint8Array): void;
  export function checkpointLoad(): Uint8Array | undefined;
  export function isCancelled(): boolean;
  export function log(level: Level, message: string): void;
}
