"""Holds a conversation, and survives a lost connection.

    chat.py [--url URL] [--policy FILE] [PROMPT]

Takes the account's token from CONFER_TOKEN. Without a prompt it reads one from each line of its input.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime, timezone

import confer


def clock(_arguments: str) -> str:
    return datetime.now(timezone.utc).isoformat()


def main() -> int:
    arguments = argparse.ArgumentParser(description="Chats with Confer's service.")
    arguments.add_argument("--url")
    arguments.add_argument("--policy")
    arguments.add_argument("prompt", nargs="?")
    given = arguments.parse_args()
    config = confer.Config(
        token=os.environ.get("CONFER_TOKEN"),
        endpoint=given.url,
        policy=confer.Policy.load(given.policy) if given.policy else None,
        limits={confer.Limit.ATTEMPTS: 10},
    )
    conversation = confer.Conversation()
    tools = [confer.Tool("clock", "The date and time", run=clock)]
    try:
        with confer.Client(config) as client:
            report = client.report()
            for check in report.checks:
                print(f"{check.outcome.name} {check.id}: {check.detail}", file=sys.stderr)
            prompts = [given.prompt] if given.prompt else (line.rstrip("\n") for line in sys.stdin)
            for prompt in prompts:
                request = confer.ChatRequest(prompt, conversation=conversation, tools=tools)
                for event in client.chat(request):
                    if isinstance(event, confer.Token):
                        print(event.text, end="", flush=True)
                print()
    except confer.VerificationError as error:
        print(f"the enclave was refused by {error.check_id}: {error}", file=sys.stderr)
        return 3
    except confer.Error as error:
        print(f"{error}" + (f": {error.peer_text}" if error.peer_text else ""), file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
