"""The client for asyncio. It needs no thread per stream."""

from __future__ import annotations

import asyncio
import ctypes
import math
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, Union, cast

from . import _abi as c
from ._client import BaseClient, answer, decided, refuse
from ._config import BaseConfig
from ._constants import Ending, Status, TokenReason
from ._errors import Error, StatusCheck, made
from ._events import (
    Answered,
    Body,
    ChatEvent,
    ClientEvent,
    Connected,
    Embeddings,
    Pong,
    ReleaseQuestion,
    RequestEvent,
    TokenQuestion,
    ToolCall,
    UploadEvent,
)
from ._native import Owned, destroyed, expected, registered, returned_text, target
from ._report import Report
from ._requests import (
    ChatRequest,
    Document,
    Source,
    Start,
    ToolFunction,
    start_chat,
    start_embeddings,
    start_extraction,
    start_fetch,
    start_raw,
)
from ._stream import BaseStream, BaseUpload, Collected, E, functions_of, give_up, open_stream

T = TypeVar("T")

#: Unix has a descriptor for each stream. Elsewhere a callback wakes the loop.
_DESCRIPTORS = sys.platform != "win32"
#: A stream that is never empty lets other tasks run after so many events.
_TURN = 64


class AsyncConfig(BaseConfig[Union[str, Awaitable[str]], Union[bool, Awaitable[bool]]]):
    """The settings of an `AsyncClient`. Its functions may be coroutine functions; they run in tasks
    of the event loop. Only `log` runs on a thread of the library."""


class _Wake:
    """Wakes the task that reads a stream."""

    async def wait(self, deadline: float | None) -> None:
        """Waits until the stream may have an event, or until the loop's time is `deadline`."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _resolve, woken)
        self._arm(loop, woken)
        try:
            await woken
        finally:
            self._disarm(loop)
            if timer is not None:
                timer.cancel()

    def clear(self) -> None:
        """Forgets earlier wake-ups, before an event is taken."""

    def _arm(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
        raise NotImplementedError

    def _disarm(self, loop: asyncio.AbstractEventLoop) -> None:
        raise NotImplementedError


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Descriptor(_Wake):
    """Waits until the stream's descriptor is readable. It is readable while an event waits."""

    def __init__(self, stream: Owned[c.confer_stream]) -> None:
        self._stream = stream
        self._fd = ctypes.c_int(-1)

    def _arm(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
        if self._fd.value < 0:
            check = StatusCheck()
            check(c.confer_stream_fd(self._stream.raw, ctypes.byref(self._fd), check.error))
        loop.add_reader(self._fd.value, _resolve, woken)

    def _disarm(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._fd.value)


class _Ready(_Wake):
    """Waits until the library calls on_ready, on its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = False
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            pass  # the loop is closed

    def clear(self) -> None:
        self._ready = False

    def _set(self) -> None:
        self._ready = True
        if self._woken is not None:
            _resolve(self._woken)

    def _arm(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
        self._woken = woken
        if self._ready:
            _resolve(woken)

    def _disarm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._woken = None


def _wake_up(user_data: int, _stream: c.confer_stream) -> None:
    ready: _Ready | None = target(user_data)
    if ready is not None:
        ready.wake()


_on_ready = c.on_ready_fn(_wake_up)


def _open(client: Owned[c.confer_client], start: Start) -> tuple[Owned[c.confer_stream], _Wake]:
    if _DESCRIPTORS:
        stream = open_stream(client, start)
        return stream, _Descriptor(stream)
    ready = _Ready()
    with registered(ready) as data:
        table = c.confer_stream_callbacks(
            size=ctypes.sizeof(c.confer_stream_callbacks),
            user_data=data,
            destroy=destroyed,
            on_ready=_on_ready,
        )
        return open_stream(client, start, ctypes.byref(table)), ready


class AsyncStream(BaseStream[E]):
    """The events of a request or of a client, one by one.

    Leaving the `async with` block, or dropping the stream, cancels the rest. So does cancelling the
    task that reads it.
    """

    def __init__(self, opened: tuple[Owned[c.confer_stream], _Wake]) -> None:
        super().__init__(opened[0])
        self._wake = opened[1]
        self._turn = 0
        self._awaited = False

    async def __aenter__(self) -> AsyncStream[E]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> E | None:
        """Returns the next event, or None after a complete answer. Raises a failure again at each call.

        Raises TimeoutError after `timeout` seconds, and the stream then continues.
        """
        event = await self._until(lambda: self._take(0), timeout)
        return None if event is None else self._delivered(event)

    async def collect(self, timeout: float | None = None) -> bytes:
        """Reads to the end, and returns the whole answer, at most 32 MiB.

        After a failure `received` has the part that came. After a TimeoutError it can be called again.
        """
        content = await self._until(lambda: self._take_all(0), timeout)
        return b"" if content is None else content

    async def aclose(self) -> None:
        """Cancels the request, or ends the watch. Reading then raises an error."""
        self._close()

    async def _until(self, take: Callable[[], T | None], timeout: float | None) -> T | None:
        """Calls `take` until it has a result or the stream has ended."""
        if self._awaited:
            raise made(Status.BUSY, "another task reads this stream")
        self._awaited = True
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None or timeout == math.inf else loop.time() + timeout
        try:
            self._turn += 1
            if self._turn % _TURN == 0:
                await asyncio.sleep(0)
            while True:
                self._wake.clear()
                taken = take()
                if taken is not None or self._ended:
                    return taken
                if deadline is not None and deadline <= loop.time():
                    raise TimeoutError("nothing came in time")
                await self._wake.wait(deadline)
        except asyncio.CancelledError:
            self._close()
            raise
        finally:
            self._awaited = False

    def _delivered(self, event: E) -> E:
        return event


class AsyncChatStream(AsyncStream[ChatEvent]):
    """The events of a chat. Runs the tools that have a function, each call in a task."""

    def __init__(self, opened: tuple[Owned[c.confer_stream], _Wake], request: ChatRequest) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        super().__init__(opened)
        self._functions = functions_of(request)
        self._tool_timeout = request.tool_timeout
        self._collected: Collected | None = Collected() if self._functions else None

    def __del__(self) -> None:
        for task in self._tasks:
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop is closed

    async def __aenter__(self) -> AsyncChatStream:
        return self

    @property
    def received(self) -> bytes:
        return super().received if self._collected is None else self._collected.content

    async def collect(self, timeout: float | None = None) -> bytes:
        if self._collected is None:
            return await super().collect(timeout)
        self._collected.check_length()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = None if deadline is None else max(deadline - loop.time(), 0)
            event = await self.next(left)
            if event is None:
                return self._collected.content
            self._collected.add(event, self)

    async def text(self, timeout: float | None = None) -> str:
        """Reads to the end, and returns the text of the answer, without its reasoning."""
        return (await self.collect(timeout)).decode(errors="replace")

    async def aclose(self) -> None:
        """Cancels the request and its tools, and waits for the tools."""
        self._close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self) -> None:
        super()._close()
        for task in self._tasks:
            task.cancel()

    def _delivered(self, event: ChatEvent) -> ChatEvent:
        if not isinstance(event, ToolCall) or not event.wants_answer:
            return event
        function = self._functions.get(event.name or "")
        if function is None:
            return event
        loop, tasks = asyncio.get_running_loop(), self._tasks
        task = loop.create_task(_run(event, function))
        tasks.add(task)
        # The library's limit has failed the call by then.
        timer = loop.call_later(self._tool_timeout, task.cancel)

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            timer.cancel()
            if not task.cancelled():
                task.exception()  # SystemExit, which asyncio has raised

        task.add_done_callback(ended)
        return replace(event, _event=None)


async def _run(call: ToolCall, function: ToolFunction) -> None:
    try:
        call.answer(returned_text("a tool", await _awaited(function(call.arguments or ""))))
    except Error as error:
        give_up(call, error.message)
    except Exception as error:
        give_up(call, str(error))


async def _awaited(result: T | Awaitable[T]) -> T:
    if isinstance(result, Awaitable):
        return cast(T, await result)
    return result


class AsyncUpload(BaseUpload, AsyncStream[UploadEvent]):
    """A document on its way, and its content: UploadProgress, then Body with JSON in pieces."""

    def __init__(self, opened: tuple[Owned[c.confer_stream], _Wake], source: Source | None) -> None:
        super().__init__(opened)
        self._source = source

    async def __aenter__(self) -> AsyncUpload:
        return self

    async def write(self, content: bytes | bytearray | memoryview) -> None:
        """Writes the next bytes of the document. Waits while the library keeps 1 MiB unsent: only
        this occupies a thread. `Status.STALE`: the upload has ended, for example because the answer
        came early."""
        left = memoryview(content).cast("B")
        try:
            while left:
                written = self._write(left, 0)
                if not written:
                    written = await asyncio.to_thread(self._write, left, -1)
                left = left[written:]
        except asyncio.CancelledError:
            self._close()
            raise


class AsyncClient(BaseClient):
    """A client for asyncio, for its whole life: connecting, connected, reconnecting, ended.

    Creating one begins to connect, and returns at once. Requests can be started at once: they stay
    in this process until the enclave is verified. Entering an `async with` block waits for that, and
    leaving the block closes the client.
    """

    def __init__(self, config: AsyncConfig | None = None) -> None:
        loop = asyncio.get_running_loop()
        config = AsyncConfig() if config is None else expected(AsyncConfig, config)
        super().__init__(config)
        self._failures: list[BaseException] = []
        self._answers: asyncio.Task[None] | None = None
        if config.token_provider is not None or config.accept_release is not None:
            self._answers = loop.create_task(_answer_all(config, self.watch(), self._failures))

    async def __aenter__(self) -> AsyncClient:
        try:
            await self.wait()
        except BaseException:
            self._close(0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def wait(self) -> None:
        """Waits until the client is connected. Raises the client's error if it has ended."""
        try:
            async for event in self.watch():
                if isinstance(event, Connected):
                    return
        except Error as error:
            provider = self._failures[-1] if self._failures and error.status == Status.TOKEN else None
            raise error from provider
        raise made(Status.CLOSED, "the client was closed")

    async def aclose(self) -> None:
        """Ends the client and its streams, and waits for its callbacks. It can be called again."""
        if not self._close(0):
            await asyncio.to_thread(self._close, -1)
        if self._answers is not None and self._answers is not asyncio.current_task():
            self._answers.cancel()
            await asyncio.wait([self._answers])

    def watch(self) -> AsyncStream[ClientEvent]:
        """Opens a stream of the client's events. It begins with the present state and any open
        question. It ends after a close, or with the client's error."""
        try:
            return AsyncStream(_open(self._handle, c.confer_client_watch))
        except Error as error:
            if error.status != Status.CLOSED:
                raise
            # The end of a closed client cannot come by callbacks, and needs no wait.
            return AsyncStream((open_stream(self._handle, c.confer_client_watch), _Ready()))

    def chat(self, request: ChatRequest | str) -> AsyncChatStream:
        """Sends a chat, and returns the stream of its answer."""
        if isinstance(request, str):
            request = ChatRequest(request)
        return AsyncChatStream(_open(self._handle, start_chat(request)), request)

    async def embed(self, texts: Sequence[str], *, is_query: bool = False) -> list[list[float]]:
        """Returns the embeddings of 1 to 64 texts: one row for each."""
        stream = AsyncStream[Embeddings](_open(self._handle, start_embeddings(texts, is_query)))
        return [row async for event in stream for row in event.rows]

    def extract(
        self,
        filename: str,
        document: Document | None = None,
        *,
        length: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> AsyncUpload:
        """Uploads a document, and returns the stream of its content.

        `document`: None if `AsyncUpload.write` writes it. `length`: the length of a document that is
        written or read from an open file. Newer servers need it. `options`: such as content_type.
        """
        start, source = start_extraction(filename, document, length, options or {})
        return AsyncUpload(_open(self._handle, start), source)

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> AsyncStream[Body]:
        """Makes the enclave fetch a page, and returns the stream of its HTML."""
        return AsyncStream(_open(self._handle, start_fetch(url, headers or {})))

    def raw(
        self, verb: str, path: str, body: str | None = None, *, ending: Ending = Ending.ONE_RESPONSE
    ) -> AsyncStream[RequestEvent]:
        """Sends a request to any route."""
        return AsyncStream(_open(self._handle, start_raw(verb, path, body, ending)))

    async def ping(self) -> float:
        """Sends a ping, and returns its round-trip time in seconds."""
        stream = AsyncStream[Pong](_open(self._handle, c.confer_ping_stream))
        return sum([event.round_trip async for event in stream])


async def _answer_all(
    config: AsyncConfig, watch: AsyncStream[ClientEvent], failures: list[BaseException]
) -> None:
    """Answers a client's questions. Refers to a watch, and not to the client, so that a forgotten
    client still ends."""
    # One question is open at a time. Its function is cancelled when the question is over.
    running: asyncio.Task[None] | None = None
    try:
        async for event in watch:
            if not isinstance(event, (TokenQuestion, ReleaseQuestion, Answered)):
                continue
            if running is not None:
                running.cancel()
                running = None
            if isinstance(event, TokenQuestion) and config.token_provider:
                running = asyncio.ensure_future(_give_token(event, config.token_provider, failures))
            elif isinstance(event, ReleaseQuestion) and config.accept_release:
                running = asyncio.ensure_future(_decide(event, config.accept_release, failures))
    except Error:
        pass  # the client's own error
    finally:
        if running is not None:
            running.cancel()


async def _give_token(
    question: TokenQuestion,
    provider: Callable[[TokenReason], str | Awaitable[str]],
    failures: list[BaseException],
) -> None:
    try:
        token = returned_text("the token provider", await _awaited(provider(question.reason)))
    except Exception as failure:
        failures[:] = [failure]
        # The exception may contain a secret.
        refuse(question, "the token provider failed")
    else:
        answer(question, token)


async def _decide(
    question: ReleaseQuestion,
    decide: Callable[[Report, Report], bool | Awaitable[bool]],
    failures: list[BaseException],
) -> None:
    accept = False
    try:
        accept = bool(await _awaited(decide(question.previous, question.now)))
    except Exception as failure:
        failures[:] = [failure]
    decided(question, accept)
