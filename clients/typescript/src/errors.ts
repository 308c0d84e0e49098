/** What a call may end with, other than its answer. */

import type { Problem, Task } from "./schema.js";

/** What every error of this package is. */
export class TqError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** No connection could be made, or it was lost before the answer came. Whether the broker acted is not known. */
export class Unreachable extends TqError {}

/** The broker said no, and changed nothing. The message is what was wrong and, if there is one, the hint. */
export class Refused extends TqError {
  /** The status of HTTP. */
  readonly status: number;
  /** The kind of refusal: the name of gRPC's status, such as `invalid_argument`. */
  readonly code: string;
  /** What was wrong. */
  readonly detail: string;
  /** What to do about it. */
  readonly hint: string | undefined;
  /** After how many milliseconds the same may be asked for again, if the broker says so. */
  readonly retryAfterMs: number | undefined;

  constructor(problem: Problem) {
    super(problem.hint ? `${problem.detail}\nhint: ${problem.hint}` : problem.detail);
    this.status = problem.status;
    this.code = problem.code;
    this.detail = problem.detail;
    this.hint = problem.hint;
    this.retryAfterMs = problem.retry_after_ms;
  }

  /** Whether the same call may succeed later, without anything being done about it. */
  get isRetryable(): boolean {
    return this.retryAfterMs !== undefined || this.code === "unavailable" || this.code === "aborted";
  }
}

/** There is no such task, module, function or whatever else was named. */
export class NotFound extends Refused {}

/** The broker has too much to do, or a quota is used up that comes back with time. */
export class Overloaded extends Refused {}

/** A task ended without success. */
export class TaskFailed extends TqError {
  /** All of the task. */
  readonly task: Task;

  constructor(task: Task) {
    const failure = task.attempts.flatMap((attempt) => attempt.failure?.message ?? []).at(-1);
    super([`task ${task.id} is ${task.state}`, task.outcome, failure].filter(Boolean).join(": "));
    this.task = task;
  }
}

/** The error that a problem is. */
export function refused(problem: Problem): Refused {
  if (problem.code === "not_found") return new NotFound(problem);
  if (problem.code === "resource_exhausted" && problem.retry_after_ms !== undefined) return new Overloaded(problem);
  return new Refused(problem);
}

/** The error that an answer is. Reads its body. */
export async function refusal(response: Response): Promise<Refused> {
  if (response.headers.get("content-type")?.startsWith("application/problem+json")) {
    return refused((await response.json()) as Problem);
  }
  // Something between here and the broker has answered.
  await response.body?.cancel();
  const status = response.status;
  const code = [502, 503, 504].includes(status) ? "unavailable" : "unknown";
  const detail = `answered with status ${status}, and not by a broker`;
  const request_id = response.headers.get("x-request-id") ?? "";
  return refused({ type: "about:blank", title: "", status, code, detail, request_id });
}
