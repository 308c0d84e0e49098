from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import httpx
from typing_extensions import Self, Unpack

from tq import _errors, _wire, types
from tq._pause import asleep

T = TypeVar("T")


class AsyncClient:
    """A connection to one broker, for one namespace. Close it, or use it in a `with` block.

    `url`, `key` and `namespace` are by default what `TQ_BROKER`, `TQ_KEY` and `TQ_NAMESPACE` say, as for the command line. Without
    a namespace it is the key's, or `default`. `verify` is as for httpx: a context of `ssl` with the authorities that are trusted. A
    key is not sent over a network without TLS, unless `plaintext` allows it.

    Methods raise `Unreachable` where the broker cannot be reached, and `Refused` where it says no.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        namespace: str | None = None,
        timeout: float = 60.0,
        verify: ssl.SSLContext | bool = True,
        plaintext: bool = False,
    ) -> None:
        self.url = _wire.base_url(_wire.setting(url, "TQ_BROKER") or _wire.ADDRESS)
        self.namespace = _wire.setting(namespace, "TQ_NAMESPACE")
        headers = _wire.headers(self.url, _wire.setting(key, "TQ_KEY"), plaintext)
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=_wire.CONNECT_S),
            verify=verify,
        )

    async def submit(
        self, function: str, payload: Any = None, /, **options: Unpack[types.NewTask]
    ) -> str:
        """Submits a call of `MODULE/FUNCTION` and returns the task's id. The task is on disk by then.

        The payload is any value, which goes as JSON, or `bytes`, which go as they are; None is no payload. Options are the fields of `tq.types.NewTask`, such
        as `queue`, `delay_ms` and `idempotency_key`. After `Unreachable`, only a task with such a key can be submitted again without
        the danger that it comes twice.
        """
        return (await self.submit_many([_wire.new_task(function, payload, options)]))[0]["id"]

    async def submit_many(self, tasks: Sequence[types.NewTask]) -> list[types.Submitted]:
        """Submits at most 1,000 tasks, all of them or none, and returns their ids in the same order."""
        body = {"tasks": list(tasks)}
        answer = await self.call("POST", "/v1/tasks", types.SubmitResponse, query=self._query(), body=body)
        return answer["tasks"]

    async def task(
        self, id: str, *, include_result: bool = True, include_payload: bool = False
    ) -> types.Task:
        """A task as it is now."""
        query = self._query(include_result=include_result, include_payload=include_payload)
        return await self.call("GET", "/v1/tasks/{id}", types.Task, query=query, id=id)

    async def cancel(self, id: str) -> types.Task:
        """Cancels a task: one that waits has ended by then, one that runs was told to stop."""
        path = "/v1/tasks/{id}/cancel"
        return await self.call("POST", path, types.Task, query=self._query(), body={}, id=id)

    async def wait(self, id: str) -> types.Task:
        """Waits until a task has ended, however it did, and returns it with its result. Goes on when the broker restarts."""
        query = self._query(ids=[id], include_result=True)
        watch = self._stream("/v1/tasks/events", query, lambda message: bool(message["ended"]))
        async with aclosing(watch):
            async for message in watch:
                for task in message["ended"]:
                    return task  # type: ignore[no-any-return]
        raise AssertionError("a watch goes on until its task has ended")

    @overload
    async def run(
        self, function: str, payload: bytes, /, **options: Unpack[types.NewTask]
    ) -> bytes: ...

    @overload
    async def run(
        self, function: str, payload: Any = None, /, **options: Unpack[types.NewTask]
    ) -> Any: ...

    async def run(
        self, function: str, payload: Any = None, /, **options: Unpack[types.NewTask]
    ) -> Any:
        """Submits a task, waits for it and returns its result: read as JSON or, if the payload is `bytes`, as it is.

        Raises `TaskFailed` if it ends without success.
        """
        task = await self.wait(await self.submit(function, payload, **options))
        if task["state"] != "succeeded":
            raise _errors.TaskFailed(task)
        result = _wire.as_bytes(task.get("result", ""))
        return result if isinstance(payload, bytes) else json.loads(result)

    def events(
        self, *, after: int | None = None, include_result: bool = False
    ) -> AsyncGenerator[types.WatchTasksResponse, None]:
        """The ends of all tasks of the namespace, as they come; it never ends by itself.

        Each message has the tasks that have `ended`, of which there may be none, and the `seq` that `after` takes to go on there in a
        later call. Without `after` it is from now on, which is when the first message comes. When the connection is lost or the broker
        restarts it goes on: no end is missed, and none comes twice.
        """
        return self._events(self._query(after_seq=after, include_result=include_result))

    async def _events(
        self, query: dict[str, Any]
    ) -> AsyncGenerator[types.WatchTasksResponse, None]:
        once = _wire.Once()
        stream = self._stream("/v1/tasks/events", query, lambda _: False)
        async with aclosing(stream):
            async for message in stream:
                yield once.only_new(message)

    def follow(
        self, id: str, *, include_log: bool = True
    ) -> AsyncGenerator[types.FollowTaskResponse, None]:
        """What becomes of a task until it has ended: its states, its progress and its log. Goes on when the broker restarts."""
        query = self._query(include_log=include_log)
        path = _wire.filled("/v1/tasks/{id}/events", {"id": id})
        return self._stream(path, query, lambda message: message.get("task", {}).get("ended_ms", 0) > 0)

    async def deploy(
        self,
        component: str | PathLike[str] | bytes,
        name: str | None = None,
        *,
        settings: types.UploadHeader | None = None,
    ) -> types.Module:
        """Uploads a component, from a file or from memory, as the next version of a module; the same bytes with the same settings make
        no other version. The module is on the broker's disk by then.

        Without a name it is the file's. `settings` are what `tq.toml` would say, such as `{"limits": …, "grants": …}`.
        """
        if isinstance(component, bytes):
            content = component
        else:
            path = Path(component)
            content = path.read_bytes()
            name = name or _wire.module_name(path)
        if name is None:
            raise ValueError("a component from memory needs a name for its module")
        answer = await self._send(
            "PUT",
            _wire.filled("/v1/modules/{name}", {"name": name}),
            params=self._query(settings=None if settings is None else json.dumps(settings)),
            headers={"content-type": "application/wasm", "content-digest": _wire.digest(content)},
            content=content,
        )
        uploaded: types.UploadModuleResponse = answer.json()
        return uploaded["module"]

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        /,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        **names: str,
    ) -> T:
        """Any call of the OpenAPI document that answers with JSON. `answer` is its type, and `names` are what stands in the path.

            queue = client.call("GET", "/v1/queues/{name}", tq.types.Queue, name="mail")

        The namespace is the credential's unless the query has one.
        """
        params = _wire.given(query or {})
        response = await self._send(method, _wire.filled(path, names), params=params, json=body)
        value: T = response.json()
        return value

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _query(self, **query: Any) -> dict[str, Any]:
        return _wire.given({"namespace": self.namespace, **query})

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _errors.refusal(response)
        return response

    async def _stream(
        self, path: str, query: dict[str, Any], is_last: Callable[[Any], bool]
    ) -> AsyncGenerator[Any, None]:
        """The messages of a stream until the one that `is_last`, and those behind it. It is opened again behind the last message
        when it was lost."""
        patience = _wire.Patience()
        seen = ""
        has_last = False
        while not has_last:
            try:
                async with self._open(path, query, seen) as response:
                    if not response.is_success:
                        await response.aread()
                        raise _errors.refusal(response)
                    events = _wire.Events()
                    async for line in response.aiter_lines():
                        event = events.line(line)
                        if event is None:
                            continue
                        if event.name == "problem":
                            raise _errors.refused(event.data)
                        if event.name == "end":
                            break
                        patience.renew()
                        seen = event.id or seen
                        has_last = has_last or is_last(event.data)
                        yield event.data
                lost: _errors.Error = _errors.Unreachable(f"broker at `{self.url}` has ended the stream")
            except httpx.TransportError as error:
                lost = self._unreachable(error)
            except _errors.Refused as error:
                lost = error
            if not has_last:
                await asleep(patience.after(lost))

    def _open(self, path: str, query: dict[str, Any], seen: str) -> Any:
        headers = {"last-event-id": seen} if seen else {}
        timeout = httpx.Timeout(self._timeout, connect=_wire.CONNECT_S, read=_wire.SILENCE_S)
        return self._http.stream("GET", path, params=query, headers=headers, timeout=timeout)

    def _unreachable(self, error: httpx.TransportError) -> _errors.Unreachable:
        return _errors.Unreachable(f"broker at `{self.url}` cannot be reached: {error or type(error).__name__}")
