"""The client of tq: submit tasks, wait for them, follow them, deploy modules.

`Client` blocks, and `AsyncClient` has the same methods for asyncio. What they take and return is JSON as dictionaries, whose
types are in `tq.types`.

    client = tq.Client("http://127.0.0.1:7171")
    print(client.run("greet", {"name": "Ada"}))
"""

from tq import types
from tq._async.client import AsyncClient
from tq._errors import Error, NotFound, Overloaded, Refused, TaskFailed, Unreachable
from tq._sync.client import Client
from tq._wire import as_bytes

__all__ = [
    "AsyncClient",
    "Client",
    "Error",
    "NotFound",
    "Overloaded",
    "Refused",
    "TaskFailed",
    "Unreachable",
    "as_bytes",
    "types",
]
