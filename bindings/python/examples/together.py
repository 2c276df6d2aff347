"""Asks several questions at once, over one connection, with asyncio.

    together.py [--url URL] [--policy FILE] PROMPT...

Takes the account's token from CONFER_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import confer


async def ask(config: confer.AsyncConfig, prompts: list[str]) -> None:
    async with confer.AsyncClient(config) as client:
        answers = await asyncio.gather(*(client.chat(prompt).text() for prompt in prompts))
    for prompt, answer in zip(prompts, answers):
        print(f"{prompt}: {answer}")


def main() -> int:
    arguments = argparse.ArgumentParser(description="Asks several questions at once.")
    arguments.add_argument("--url")
    arguments.add_argument("--policy")
    arguments.add_argument("prompts", nargs="+", metavar="PROMPT")
    given = arguments.parse_args()
    config = confer.AsyncConfig(
        token=os.environ.get("CONFER_TOKEN"),
        endpoint=given.url,
        policy=confer.Policy.load(given.policy) if given.policy else None,
    )
    try:
        asyncio.run(ask(config, given.prompts))
    except confer.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
