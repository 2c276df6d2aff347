"""Runs the conformance vectors of tests/vectors. Their README defines the form of the results."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
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
                    # The enclave has written to stderr how the client left the script.
                    results += [{"script": "failed"}] if enclave.status() else []
                self.assertEqual(results, vector["results"])


def exchange(enclave: Enclave, vector: Object) -> list[Object]:
    parts = vector.get("exchange", {})
    client = confer.Client(adapted(enclave.config(), parts))
    watch = Watch(client.watch(), parts["watch"]) if "watch" in parts else None
    try:
        if watch is None:
            client.wait()
    except confer.Error as error:
        return [result(error)]
    if "connect" in vector:
        client.close()
        return [result(None)]
    requests, conversation = parts["requests"], conversation_of(parts)
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        watching = pool.submit(watch.run) if watch else None
        if parts.get("together"):
            results = list(pool.map(lambda asked: run(client, asked, conversation), requests))
        else:
            results = [run(client, asked, conversation) for asked in requests]
        if watch:
            watch.ready.wait()
        client.close()
        if watching:
            results.append(watching.result())
    return results


async def exchange_async(enclave: Enclave, vector: Object) -> list[Object]:
    parts = vector.get("exchange", {})
    client = confer.AsyncClient(adapted(enclave.async_config(), parts))
    watch = Watch(client.watch(), parts["watch"]) if "watch" in parts else None
    try:
        if watch is None:
            await client.wait()
    except confer.Error as error:
        return [result(error)]
    if "connect" in vector:
        await client.aclose()
        return [result(None)]
    watching = asyncio.create_task(watch.run_async()) if watch else None
    conversation = conversation_of(parts)
    running: list[Coroutine[Any, Any, Object]] = [
        run_async(client, asked, conversation) for asked in parts["requests"]
    ]
    if parts.get("together"):
        results = list(await asyncio.gather(*running))
    else:
        results = [await each for each in running]
    if watch:
        await asyncio.to_thread(watch.ready.wait)
    await client.aclose()
    if watching:
        results.append(await watching)
    return results


class Watch:
    """Reads the watch of a client to its end."""

    def __init__(self, stream: Any, vector: Object) -> None:
        self.stream, self.vector = stream, vector
        self.replies: Iterator[list[Object]] = iter(vector.get("replies", []))
        self.events: list[Object] = []
        #: Set after the events before the client's close.
        self.ready = threading.Event()

    def run(self) -> Object:
        failure = None
        try:
            for event in self.stream:
                self.add(event)
        except confer.Error as error:
            failure = error
        finally:
            self.ready.set()
        return {**result(failure), "events": self.events}

    async def run_async(self) -> Object:
        failure = None
        try:
            async for event in self.stream:
                self.add(event)
        except confer.Error as error:
            failure = error
        finally:
            self.ready.set()
        return {**result(failure), "events": self.events}

    def add(self, event: confer.ClientEvent) -> None:
        shown: Object
        if isinstance(event, confer.StageBegan):
            return
        if isinstance(event, confer.Connected):
            shown = {"type": "CONNECTED", "release_changed": event.release_changed}
        elif isinstance(event, confer.Disconnected):
            shown = {"type": "DISCONNECTED", "error": result(event.error)}
        elif isinstance(event, confer.Retry):
            shown = {"type": "RETRY", "attempt": event.attempt}
            shown["error"] = result(event.error) if event.error else None
        elif isinstance(event, confer.TokenQuestion):
            shown = {"type": "ASK_TOKEN", "reason": "CONFER_TOKEN_" + event.reason.name}
            shown["replies"] = [self.reply(event, reply) for reply in next(self.replies, [])]
        elif isinstance(event, confer.ReleaseQuestion):
            shown = {"type": "ASK_RELEASE"}
            shown["replies"] = [self.reply(event, reply) for reply in next(self.replies, [])]
        else:
            assert isinstance(event, confer.Answered)
            shown = {"type": "ANSWERED"}
        shown["type"] = "CONFER_EVENT_" + shown["type"]
        self.events.append(shown)
        if len(self.events) == self.vector["close_after"]:
            self.ready.set()

    @staticmethod
    def reply(question: confer.TokenQuestion | confer.ReleaseQuestion, reply: Object) -> str:
        """Replies to a question, and returns the status."""
        try:
            if isinstance(question, confer.ReleaseQuestion):
                question.answer(reply["accept"])
            elif "token" in reply:
                question.answer(reply["token"])
            else:
                question.refuse(reply["refuse"])
        except confer.Error as error:
            return "CONFER_E_" + error.status.name
        return "CONFER_OK"


def conversation_of(parts: Object) -> confer.Conversation | None:
    if "conversation" not in parts:
        return None
    begun = parts["conversation"]
    return confer.Conversation(json.dumps(begun) if begun else None)


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


def adapted(config: Any, parts: Object) -> Any:
    config.durations = {
        confer.Duration[name.removeprefix("CONFER_DURATION_")]: ms / 1000
        for name, ms in parts.get("durations_ms", {}).items()
    }
    config.limits = {
        confer.Limit[name.removeprefix("CONFER_LIMIT_")]: value
        for name, value in parts.get("limits", {}).items()
    }
    config.token = parts.get("token", config.token)
    for question in parts.get("ask", []):
        config.ask |= confer.Ask[question.removeprefix("CONFER_ASK_")]
    return config


def run(client: confer.Client, asked: Object, conversation: confer.Conversation | None) -> Object:
    events: list[Object] = []
    failure = None
    try:
        if asked["kind"] == "embeddings":
            add(events, confer.Embeddings(client.embed(asked["texts"], is_query=asked["is_query"])))
        elif asked["kind"] == "ping":
            add(events, confer.Pong(client.ping()))
        else:
            stream = opened(client, asked, conversation)
            for event in stream:
                take(stream, asked, events, event)
    except confer.Error as error:
        failure = error
    return finished(asked, failure, events, conversation)


async def run_async(
    client: confer.AsyncClient, asked: Object, conversation: confer.Conversation | None
) -> Object:
    events: list[Object] = []
    failure = None
    try:
        if asked["kind"] == "embeddings":
            rows = await client.embed(asked["texts"], is_query=asked["is_query"])
            add(events, confer.Embeddings(rows))
        elif asked["kind"] == "ping":
            add(events, confer.Pong(await client.ping()))
        else:
            stream = opened(client, asked, conversation)
            async for event in stream:
                take(stream, asked, events, event)
    except confer.Error as error:
        failure = error
    return finished(asked, failure, events, conversation)


def finished(
    asked: Object,
    failure: confer.Error | None,
    events: list[Object],
    conversation: confer.Conversation | None,
) -> Object:
    shown = {**result(failure), "events": events}
    # A conversation without messages is false.
    if asked["kind"] == "chat" and conversation is not None:
        shown["conversation"] = json.loads(conversation.json)
    return shown


def opened(
    client: confer.Client | confer.AsyncClient, asked: Object, conversation: confer.Conversation | None
) -> Any:
    if asked["kind"] == "chat":
        return client.chat(
            confer.ChatRequest(
                messages=asked["messages"],
                streaming=asked.get("streaming", True),
                tools=[confer.Tool(**tool) for tool in asked.get("tools", [])],
                tool_rounds=asked.get("tool_rounds"),
                properties=asked.get("properties", {}),
                conversation=conversation,
            )
        )
    if asked["kind"] == "extraction":
        return client.extract(
            asked["filename"], joined(asked["document"]).encode(), options=asked["options"]
        )
    if asked["kind"] == "fetch":
        return client.fetch(asked["url"], asked["headers"])
    ending = confer.Ending[asked["ending"].removeprefix("CONFER_ENDING_")]
    return client.raw(asked["verb"], asked["path"], asked["body"], ending=ending)


def joined(parts: Any) -> str:
    """A text, or a list of texts and repeated texts, joined."""
    if isinstance(parts, str):
        return parts
    return "".join(part if isinstance(part, str) else part["repeat"] * part["times"] for part in parts)


def take(stream: Any, asked: Object, events: list[Object], event: object) -> None:
    """Adds an event, answers it, and cancels where the vector says so."""
    if not isinstance(event, confer.UploadProgress) or "progress" in asked:
        add(events, event)
    if isinstance(event, confer.ToolCall) and event.wants_answer:
        if event.id in asked.get("answers", {}):
            event.answer(asked["answers"][event.id])
        else:
            event.fail("no answer")
    if asked.get("cancel_after") == len(events):
        stream.cancel()


def add(events: list[Object], event: object) -> None:
    """Adds an event in the normal form."""
    shown: Object
    if isinstance(event, confer.UploadProgress):
        if events and events[-1]["type"] == "CONFER_EVENT_PROGRESS":
            events.pop()
        shown = {"type": "PROGRESS", "sent": event.sent, "total": event.total}
    elif isinstance(event, confer.Token):
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
