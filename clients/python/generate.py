"""Writes what is generated: `types.py` of the OpenAPI document, and the blocking client of the asynchronous one.

It is the hook that builds the package, and `python generate.py` does the same.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import unasync
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent

# What has another name in the blocking client, beside `async`, `await` and what follows from them.
BLOCKING = {
    "AsyncClient": "Client",
    "aclose": "close",
    "aclosing": "closing",
    "aiter_lines": "iter_lines",
    "aread": "read",
    "asleep": "sleep",
}


def document() -> Path:
    """The OpenAPI document: in the tree it is the broker's, and a source distribution has it beside this file."""
    own = HERE / "openapi.json"
    return own if own.is_file() else HERE.parent.parent / "broker/src/api/rest/openapi.json"


def types(package: Path) -> None:
    command = [sys.executable, "-m", "datamodel_code_generator"]
    command += ["--input", str(document()), "--input-file-type", "openapi"]
    command += ["--output-model-type", "typing.TypedDict", "--no-use-closed-typed-dict"]
    command += ["--enum-field-as-literal", "all", "--use-schema-description", "--use-field-description"]
    command += ["--target-python-version", "3.10", "--disable-timestamp", "--formatters", "builtin"]
    # It warns of the formats of integers, which Python has no types for.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory(dir=package) as place:
        made = Path(place, "types.py")
        subprocess.run([*command, "--output", str(made)], check=True, env=environment)
        # At once, so that nobody imports half of it.
        made.replace(package / "types.py")


def blocking(package: Path) -> None:
    rule = unasync.Rule(fromdir="/_async/", todir="/_sync/", additional_replacements=BLOCKING)
    files = [str(path) for path in (package / "_async").glob("*.py")]
    unasync.unasync_files(files, rules=[rule])


def generate() -> None:
    package = HERE / "src/tq"
    types(package)
    blocking(package)


class Hook(BuildHookInterface[Any]):
    """Called by hatchling, for a package and for an installation that can be edited alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate()


if __name__ == "__main__":
    generate()
