"""Deploys a module, has it find the most frequent words of a text, and shows what an error is like.

    python top_words.py word-count.wasm
"""

import sys

import tq

TEXT = "To be, or not to be, that is the question"


def main(component: str) -> None:
    # The broker's address, the key and the namespace are what TQ_BROKER, TQ_KEY and TQ_NAMESPACE say.
    with tq.Client() as client:
        module = client.deploy(component)
        print(f"deployed {module['name']}@{module['version']}")

        # Every other call of the API, with its types.
        queue = client.call("PUT", "/v1/queues/{name}", tq.types.Queue, name="mail", body={"concurrency": 4})
        print(f"queue {queue['name']} runs {queue['concurrency']} at once")

        # Submit and wait in one.
        for word in client.run("word-count/top", {"text": TEXT, "n": 2}):
            print(f"{word['count']} {word['word']}")

        # Submit now, with what a task may have, and wait later.
        id = client.submit("word-count/count", TEXT.encode(), queue="mail", priority=200)
        task = client.wait(id)
        print(task["state"], tq.as_bytes(task["result"]).decode())

        try:
            client.submit("word-count/topp", {"text": TEXT, "n": 2})
        except tq.NotFound as error:
            print(f"refused: {error}")


main(sys.argv[1])
