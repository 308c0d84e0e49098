"""What a call may end with, other than its answer."""

from __future__ import annotations

from typing import Any

import httpx

from tq import types


class Error(Exception):
    """What every error of this package is."""


class Unreachable(Error):
    """No connection could be made, or it was lost before the answer came. Whether the broker acted is not known."""


class Refused(Error):
    """The broker said no, and changed nothing. Its text is what was wrong, and `hint`, if there is one, what to do about it."""

    def __init__(self, problem: types.Problem) -> None:
        hint = problem.get("hint")
        super().__init__(problem["detail"] + (f"\nhint: {hint}" if hint else ""))
        self.status = problem["status"]
        """The status of HTTP."""
        self.code = problem["code"]
        """The kind of refusal: the name of gRPC's status, such as `invalid_argument`."""
        self.detail = problem["detail"]
        self.hint = hint
        retry_after_ms = problem.get("retry_after_ms")
        self.retry_after = None if retry_after_ms is None else retry_after_ms / 1000
        """After how many seconds the same may be asked for again, if the broker says so."""

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later, without anything being done about it."""
        return self.retry_after is not None or self.code in ("unavailable", "aborted")


class NotFound(Refused):
    """There is no such task, module, function or whatever else was named."""


class Overloaded(Refused):
    """The broker has too much to do, or a quota is used up that comes back with time."""


class TaskFailed(Error):
    """A task ended without success. `task` is all of it."""

    def __init__(self, task: types.Task) -> None:
        failures = [attempt["failure"]["message"] for attempt in task["attempts"] if "failure" in attempt]
        super().__init__(": ".join([f"task {task['id']} is {task['state']}", task["outcome"], *failures[-1:]]))
        self.task = task


def refused(problem: types.Problem) -> Refused:
    """The error that a problem is."""
    if problem["code"] == "not_found":
        return NotFound(problem)
    if problem["code"] == "resource_exhausted" and "retry_after_ms" in problem:
        return Overloaded(problem)
    return Refused(problem)


def refusal(response: httpx.Response) -> Refused:
    """The error that an answer is, whose body has been read."""
    problem: Any = None
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
    if not isinstance(problem, dict):
        # Something between here and the broker has answered.
        detail = f"answered with status {response.status_code}, and not by a broker"
        code = "unavailable" if response.status_code in (502, 503, 504) else "unknown"
        status = response.status_code
        problem = {"type": "about:blank", "title": "", "status": status, "code": code, "detail": detail}
    return refused(problem)
