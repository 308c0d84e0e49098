"""What is written and read, apart from any connection: it is the same for both clients."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tq import types
from tq._errors import Error, Refused

ADDRESS = "http://127.0.0.1:7171"

CONNECT_S = 5.0
"""A broker that does not take a connection within this time counts as unreachable."""

SILENCE_S = 45.0
"""A stream without a word for so long is taken for lost: the broker says something every 15 s."""

AWAY_S = 60.0
"""How long a broker may be away before a stream gives up: long enough for a restart."""

PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 1.0


def setting(given: str | None, variable: str) -> str | None:
    """What was given, or what the environment has; empty is nothing."""
    return (os.environ.get(variable) if given is None else given) or None


def base_url(url: str) -> str:
    """The broker's address with a scheme, as the command line takes it without one too."""
    return url if "://" in url else f"http://{url}"


def headers(url: str, key: str | None, plaintext: bool) -> dict[str, str]:
    """The headers of every request. A key goes by TLS or stays within the machine, unless it may be read on the way."""
    if key is None:
        return {}
    where = urlsplit(url)
    if where.scheme != "https" and not is_loopback(where.hostname or "") and not plaintext:
        raise Error(f"the key would go to `{url}` without TLS, so that others on the way could read it")
    return {"authorization": f"Bearer {key}"}


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def filled(path: str, names: Mapping[str, str]) -> str:
    """A path of the document with its names in it: `/v1/queues/{name}`."""
    return path.format(**{name: quote(value, safe="") for name, value in names.items()})


def given(query: Mapping[str, Any]) -> dict[str, Any]:
    """What of a query is there."""
    return {name: value for name, value in query.items() if value is not None}


def new_task(function: str, payload: Any, options: types.NewTask) -> types.NewTask:
    """A task. Its payload is any value as JSON, and bytes as they are."""
    task: types.NewTask = {**options, "function": function}
    if isinstance(payload, bytes):
        task["payload"] = {"base64": base64.b64encode(payload).decode()}
    elif payload is not None:
        task["payload"] = {"json": payload}
    return task


def as_bytes(value: types.Bytes) -> bytes:
    """The bytes of a payload, a result or a value of a bucket, as answers have them."""
    if isinstance(value, str):
        return value.encode()
    other: Mapping[str, Any] = value
    return base64.b64decode(other["base64"]) if "base64" in other else json.dumps(other["json"]).encode()


def digest(component: bytes) -> str:
    """What `content-digest` says of an upload (RFC 9530)."""
    sha256 = base64.b64encode(hashlib.sha256(component).digest()).decode()
    return f"sha-256=:{sha256}:"


def module_name(path: Path) -> str:
    """The name of a module by its file: `word_count.wasm` is `word-count`."""
    return path.stem.replace("_", "-")


@dataclass
class Event:
    """A server-sent event."""

    name: str
    id: str
    data: Any


class Events:
    """Reads server-sent events, line by line."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def line(self, line: str) -> Event | None:
        """The event that ends with this line, if one does."""
        if line:
            name, _, value = line.partition(":")
            # The broker writes the data of an event in one line. What begins with a colon only keeps the connection up.
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return Event(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))


class Patience:
    """How long and how often a stream is opened again."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """The broker is there."""
        self._give_up = time.monotonic() + AWAY_S
        self._pause = PAUSE_FIRST_S

    def after(self, error: Error) -> float:
        """How many seconds to pause after an error. Raises it if another try would not go better, or the broker has been away for too
        long."""
        pause = self._pause
        if isinstance(error, Refused):
            if not error.is_retryable:
                raise error
            pause = pause if error.retry_after is None else error.retry_after
        if time.monotonic() + pause >= self._give_up:
            raise error
        self._pause = min(self._pause * 2, PAUSE_MAX_S)
        return pause


class Once:
    """Drops what a stream of ends tells again after a connection was lost: ends of a commit that was told in part."""

    def __init__(self) -> None:
        self._seq: int | None = None
        self._ahead: set[tuple[str, int]] = set()

    def only_new(self, message: types.WatchTasksResponse) -> types.WatchTasksResponse:
        ended = [task for task in message["ended"] if (task["id"], task["ended_ms"]) not in self._ahead]
        if message["seq"] == self._seq:
            self._ahead.update((task["id"], task["ended_ms"]) for task in ended)
        else:
            self._seq = message["seq"]
            self._ahead.clear()
        return {**message, "ended": ended}
