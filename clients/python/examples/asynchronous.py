"""Runs many calls at once, and follows the ends of all tasks meanwhile.

    python asynchronous.py
"""

import asyncio
from contextlib import aclosing

import tq

TEXTS = ["one", "one two", "one two three"]


async def main() -> None:
    async with tq.AsyncClient() as client:
        async with aclosing(client.events()) as events:
            # From the first message on, no end is missed.
            seq = (await anext(events))["seq"]
        counted = await asyncio.gather(*(client.run("word-count/count", text.encode()) for text in TEXTS))
        print([result.decode() for result in counted])

        ended = set()
        # As a later run of this program would go on where this one was.
        async with aclosing(client.events(after=seq)) as events:
            async for message in events:
                ended |= {task["id"] for task in message["ended"]}
                if len(ended) == len(TEXTS):
                    break
        print(f"{len(ended)} have ended")


asyncio.run(main())
