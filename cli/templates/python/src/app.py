import wit_world
from componentize_py_types import Err
from wit_world import Greeting
from wit_world.imports import runtime


class WitWorld(wit_world.WitWorld):
    """The functions of wit/world.wit."""

    def greet(self, name: str) -> Greeting:
        person = name.strip()
        if not person:
            # The task's failure. Any other exception is a trap, and is tried again.
            raise Err("`name` is empty")
        runtime.progress(0.5, f"greeting {person}")
        print("greeting", person)  # In the task's log.
        return Greeting(f"Hello, {person}!")
