"""Runs the conformance vectors of tests/vectors. Their README defines the form of the results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import confer

from .enclave import Enclave, EnclaveTest

FOLDER = Path(__file__).parents[3] / "tests" / "vectors"

Object = dict[str, Any]


class Vectors(EnclaveTest):
    maxDiff = None

    def test_vectors(self) -> None:
        self.each(exchange)

    def test_vectors_with_asyncio(self) -> None:
        self.each(lambda enclave, vector: asyncio.run(exchange_async(enclave, vector)))

    def each(self, exchange: Callable[[Enclave, Object], list[Object]]) -> None:
        files = sorted(file for file in FOLDER.glob("*.json") if file.name != "schema.json")
        self.assertGreaterEqual(len(files), 60)
        for file in files:
            vector: Object = json.loads(file.read_text("utf-8"))
            with self.subTest(file.stem):
                if "evidence" in vector:
                    results = [verify(vector["evidence"])]
                elif "connect" in vector:
                    results = exchange(self.enclave("--fault", vector["connect"]["fault"]), vector)
                else:
                    enclave = self.enclave("--script", str(file))
                    results = exchange(enclave, vector)
                    self.assertEqual(enclave.status(), 0, "the script failed")
                self.assertEqual(results, vector["results"])


def exchange(enclave: Enclave, vector: Object) -> list[Object]:
    client = confer.Client(adapted(enclave.config(), vector))
    try:
        client.wait()
    except confer.Error as error:
        return [result(error)]
    if "connect" in vector:
        client.close()
        return [result(None)]
    requests = vector["exchange"]["requests"]
    workers = len(requests) if vector["exchange"].get("together") else 1
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda asked: run(client, asked), requests))
    client.close()
    return results


async def exchange_async(enclave: Enclave, vector: Object) -> list[Object]:
    client = confer.AsyncClient(adapted(enclave.async_config(), vector))
    try:
        await client.wait()
    except confer.Error as error:
        return [result(error)]
    if "connect" in vector:
        await client.aclose()
        return [result(None)]
    running: list[Coroutine[Any, Any, Object]] = [
        run_async(client, asked) for asked in vector["exchange"]["requests"]
    ]
    if vector["exchange"].get("together"):
        results = list(await asyncio.gather(*running))
    else:
        results = [await each for each in running]
    await client.aclose()
    return results


def verify(evidence: Object) -> Object:
    report, failure = None, None
    try:
        policy = confer.Policy.parse((FOLDER / evidence["policy"]).read_text("utf-8"))
        export = (FOLDER / evidence["export"]).read_text("utf-8")
        report = confer.verify_evidence(export, policy, evidence["at"])
    except confer.Error as error:
        report, failure = error.report, error
    shown = json.loads(report.json) if report else None
    if shown:
        shown["checks"] = [{key: check[key] for key in ("id", "outcome")} for check in shown["checks"]]
    return {**result(failure), "report": shown}


def result(error: confer.Error | None) -> Object:
    if error is None:
        keys = ("check", "http_status", "progress", "retryable", "peer_text")
        return {"status": "CONFER_OK", **dict.fromkeys(keys)}
    return {
        "status": "CONFER_E_" + error.status.name,
        "check": error.check_id,
        "http_status": error.http_status,
        "progress": "CONFER_PROGRESS_" + error.progress.name,
        "retryable": error.retryable,
        "peer_text": error.peer_text,
    }


def adapted(config: Any, vector: Object) -> Any:
    exchange = vector.get("exchange", {})
    if "idle_ms" in exchange:
        idle = exchange["idle_ms"] / 1000
        config.durations = {confer.Duration.IDLE_EVENTS: idle, confer.Duration.IDLE_OTHER: idle}
    if "unfinished_bytes" in exchange:
        config.limits = {confer.Limit.UNFINISHED: exchange["unfinished_bytes"]}
    return config


def run(client: confer.Client, asked: Object) -> Object:
    events: list[Object] = []
    failure = None
    try:
        if asked["kind"] == "embeddings":
            add(events, confer.Embeddings(client.embed(asked["texts"], is_query=asked["is_query"])))
        elif asked["kind"] == "ping":
            add(events, confer.Pong(client.ping()))
        else:
            stream = opened(client, asked)
            for event in stream:
                take(stream, asked, events, event)
    except confer.Error as error:
        failure = error
    return {**result(failure), "events": events}


async def run_async(client: confer.AsyncClient, asked: Object) -> Object:
    events: list[Object] = []
    failure = None
    try:
        if asked["kind"] == "embeddings":
            rows = await client.embed(asked["texts"], is_query=asked["is_query"])
            add(events, confer.Embeddings(rows))
        elif asked["kind"] == "ping":
            add(events, confer.Pong(await client.ping()))
        else:
            stream = opened(client, asked)
            async for event in stream:
                take(stream, asked, events, event)
    except confer.Error as error:
        failure = error
    return {**result(failure), "events": events}


def opened(client: confer.Client | confer.AsyncClient, asked: Object) -> Any:
    if asked["kind"] == "chat":
        return client.chat(
            confer.ChatRequest(
                messages=asked["messages"],
                streaming=asked.get("streaming", True),
                tools=[confer.Tool(**tool) for tool in asked.get("tools", [])],
                tool_rounds=asked.get("tool_rounds"),
                properties=asked.get("properties", {}),
            )
        )
    if asked["kind"] == "extraction":
        return client.extract(asked["filename"], asked["document"].encode(), options=asked["options"])
    if asked["kind"] == "fetch":
        return client.fetch(asked["url"], asked["headers"])
    ending = confer.Ending[asked["ending"].removeprefix("CONFER_ENDING_")]
    return client.raw(asked["verb"], asked["path"], asked["body"], ending=ending)


def take(stream: Any, asked: Object, events: list[Object], event: object) -> None:
    """Adds an event, answers it, and cancels where the vector says so."""
    add(events, event)
    if isinstance(event, confer.ToolCall) and event.wants_answer:
        event.answer(asked["answers"][event.id])
    if asked.get("cancel_after") == len(events):
        stream.cancel()


def add(events: list[Object], event: object) -> None:
    """Adds an event in the normal form."""
    shown: Object
    if isinstance(event, confer.UploadProgress):
        return
    if isinstance(event, confer.Token):
        shown = {"type": "TOKEN", "content": event.text}
    elif isinstance(event, confer.Thinking):
        shown = {"type": "THINKING", "content": event.text}
    elif isinstance(event, confer.Body):
        content = event.content.decode()
        if events and events[-1]["type"] == "CONFER_EVENT_BODY":
            content = events.pop()["content"] + content
        if not content:
            return
        shown = {"type": "BODY", "content": content}
    elif isinstance(event, (confer.ServerToolCall, confer.ServerToolResponse, confer.ToolCall)):
        shown = {"tool_call_id": event.id, "tool_name": event.name}
        if isinstance(event, confer.ServerToolResponse):
            shown |= {"type": "SERVER_TOOL_RESPONSE", "content": event.content or ""}
            shown["full_content"] = event.full_content or ""
        elif isinstance(event, confer.ServerToolCall):
            shown |= {"type": "SERVER_TOOL_CALL", "tool_arguments": event.arguments}
        else:
            shown |= {"type": "CLIENT_TOOL_CALL", "tool_arguments": event.arguments}
            shown["wants_answer"] = event.wants_answer
    elif isinstance(event, confer.Completion):
        shown = {"type": "COMPLETION", "pending_tool_calls": event.pending_tool_calls}
        shown["context_tokens"] = event.context_tokens
        shown["max_context_tokens"] = event.max_context_tokens
    elif isinstance(event, confer.Embeddings):
        shown = {"type": "EMBEDDINGS", "values": event.rows}
    elif isinstance(event, confer.Pong):
        shown = {"type": "PONG"}
    else:
        assert isinstance(event, confer.OtherEvent) and event.json is not None
        shown = {"type": "OTHER", "json": json.loads(event.json)}
    shown["type"] = "CONFER_EVENT_" + shown["type"]
    events.append(shown)
