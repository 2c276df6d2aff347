"""Streams: reading the events of a request or of a client."""

from __future__ import annotations

import ctypes
import inspect
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from . import _abi as c
from ._constants import Progress, Status
from ._errors import Error, StatusCheck, made
from ._events import Body, ChatEvent, Completion, Token, ToolCall, UploadEvent, read_event
from ._native import Owned, on_main_thread, raw, returned_text
from ._requests import ChatRequest, Source, Start, ToolFunction

E = TypeVar("E")

#: The main thread waits at most this long in C, because Python runs signal handlers only between
#: calls. Other threads wait without a limit.
_SIGNALS_MS = 100
#: The limit and the message of confer_stream_collect().
_MAX_COLLECTED = 32 << 20
_TOO_LONG = "the answer is larger than 33554432 bytes; read its events one by one"
#: A document is copied and written in pieces of this size: the library keeps no more unsent.
_PIECE = 1 << 20


def waits(timeout: float | None) -> Iterator[int]:
    """Yields the milliseconds of each wait in C until `timeout` seconds have passed."""
    slice_ms = _SIGNALS_MS if on_main_thread() else -1
    if timeout is None or timeout == math.inf:
        while True:
            yield slice_ms
    deadline = time.monotonic() + timeout
    while True:
        left = min(max(math.ceil((deadline - time.monotonic()) * 1000), 0), 2**31)
        yield left if slice_ms < 0 else min(left, slice_ms)
        if left == 0:
            return


class BaseStream(Generic[E]):
    """What Stream and AsyncStream share."""

    def __init__(self, handle: Owned[c.confer_stream]) -> None:
        self._handle = handle
        self._ended = False
        self._closed = False
        # Held while the library lends an event or a text to this object.
        self._reading = threading.Lock()

    def cancel(self) -> None:
        """Cancels the request, or ends the watch. Never waits, and any thread may call it.

        A reader then receives `Status.CANCELLED`, unless the whole answer was delivered.
        """
        c.confer_stream_cancel(self._handle.raw)

    @property
    def received(self) -> bytes:
        """The part of an answer that `collect` or `text` has read, also after a failure."""
        with self._lent():
            return raw(c.confer_stream_text, self._handle.raw) or b""

    @property
    def dropped(self) -> int:
        """The number of events that a watch dropped because nobody read them."""
        return c.confer_stream_dropped(self._handle.raw)

    def _close(self) -> None:
        self._closed = True
        self.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise made(Status.CANCELLED, "this stream was closed")

    def _lent(self) -> threading.Lock:
        """Returns the lock for `with`, which an interrupt cannot leave locked. A second reader that
        comes at the same instant waits."""
        if self._reading.locked():
            raise made(Status.BUSY, "another thread reads this stream")
        return self._reading

    def _take(self, timeout_ms: int) -> E | None:
        """Takes the next event. None after a timeout, and at the end, which sets `_ended`."""
        self._check_open()
        with self._lent():
            check, event = StatusCheck(), c.confer_event()
            try:
                status = check(
                    c.confer_stream_next(self._handle.raw, timeout_ms, ctypes.byref(event), check.error)
                )
            except Error as error:
                raise self._failed(error) from self._cause(error)
            if status == Status.OK:
                return cast(E, read_event(event))
            self._ended = status == Status.END
            return None

    def _take_all(self, timeout_ms: int) -> bytes | None:
        """Reads to the end. None after a timeout."""
        self._check_open()
        with self._lent():
            check, content, length = StatusCheck(), ctypes.c_void_p(), ctypes.c_size_t()
            try:
                status = check(
                    c.confer_stream_collect(
                        self._handle.raw,
                        timeout_ms,
                        ctypes.byref(content),
                        ctypes.byref(length),
                        check.error,
                    )
                )
            except Error as error:
                raise self._failed(error) from self._cause(error)
            if status == Status.TIMEOUT:
                return None
            self._ended = True
            return ctypes.string_at(content, length.value) if content.value else b""

    def _failed(self, error: Error) -> Error:
        return error

    def _cause(self, error: Error) -> BaseException | None:
        return None


class Stream(BaseStream[E]):
    """The events of a request or of a client, one by one.

    Leaving the `with` block, or dropping the stream, cancels the rest. One thread at a time may read
    it, and any may cancel it.
    """

    def __enter__(self) -> Stream[E]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: float | None = None) -> E | None:
        """Returns the next event, or None after a complete answer. Raises a failure again at each call.

        Raises TimeoutError after `timeout` seconds, and the stream then continues.
        """
        for timeout_ms in waits(timeout):
            event = self._take(timeout_ms)
            if event is not None:
                return self._delivered(event)
            if self._ended:
                return None
        raise TimeoutError("no event came in time")

    def collect(self, timeout: float | None = None) -> bytes:
        """Reads to the end, and returns the whole answer, at most 32 MiB.

        After a failure `received` has the part that came. After a TimeoutError it can be called again.
        """
        for timeout_ms in waits(timeout):
            content = self._take_all(timeout_ms)
            if content is not None:
                return content
        raise TimeoutError("the answer was not complete in time")

    def close(self) -> None:
        """Cancels the request, or ends the watch. Reading then raises an error."""
        self._close()

    def _delivered(self, event: E) -> E:
        return event


class Collected:
    """The text of a chat with tools: that of its last round."""

    def __init__(self) -> None:
        self.content = b""
        self._over = False
        self._too_long = False

    def check_length(self) -> None:
        """Raises the error of an answer that was too long."""
        if self._too_long:
            error = made(Status.TOO_LARGE, _TOO_LONG)
            error.progress = Progress.PARTLY_ANSWERED
            raise error

    def add(self, event: ChatEvent, stream: BaseStream[ChatEvent]) -> None:
        """Adds an event of the stream. Cancels the stream if the text becomes too long."""
        if isinstance(event, Completion):
            if self._over:  # a round without a text
                self.content = b""
            self._over = True
        elif isinstance(event, (Token, Body)):
            piece = event.text.encode() if isinstance(event, Token) else event.content
            if self._over:
                self.content, self._over = b"", False
            if len(self.content) + len(piece) > _MAX_COLLECTED:
                self._too_long = True
                stream.cancel()  # without this piece it must not end as complete
            self.check_length()
            self.content += piece


def functions_of(request: ChatRequest) -> dict[str, ToolFunction]:
    return {tool.name: tool.run for tool in request.tools if tool.run is not None}


def answer_with(call: ToolCall, function: Callable[[], str]) -> None:
    """Answers a call with a function's result, or with its failure."""
    try:
        call.answer(function())
    except Error as error:
        give_up(call, error.message)
    except Exception as error:
        give_up(call, str(error))


def give_up(call: ToolCall, reason: str) -> None:
    """Fails a call. If it is over, nobody needs the answer."""
    try:
        call.fail(reason)
    except Error:
        pass


class ChatStream(Stream[ChatEvent]):
    """The events of a chat. Runs the tools that have a function, on the thread that reads."""

    def __init__(self, handle: Owned[c.confer_stream], request: ChatRequest) -> None:
        super().__init__(handle)
        self._tools = functions_of(request)
        self._collected: Collected | None = Collected() if self._tools else None

    def __enter__(self) -> ChatStream:
        return self

    @property
    def received(self) -> bytes:
        return super().received if self._collected is None else self._collected.content

    def collect(self, timeout: float | None = None) -> bytes:
        if self._collected is None:
            return super().collect(timeout)
        self._collected.check_length()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            event = self.next(left)
            if event is None:
                return self._collected.content
            self._collected.add(event, self)

    def text(self, timeout: float | None = None) -> str:
        """Reads to the end, and returns the text of the answer, without its reasoning."""
        return self.collect(timeout).decode(errors="replace")

    def _delivered(self, event: ChatEvent) -> ChatEvent:
        if not isinstance(event, ToolCall) or not event.wants_answer:
            return event
        run = self._tools.get(event.name or "")
        if run is None:
            return event
        answer_with(event, lambda: _text_of(run(event.arguments or "")))
        return replace(event, _event=None)


def _text_of(result: Any) -> str:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("a coroutine function needs an AsyncClient")
    return returned_text("a tool", result)


class BaseUpload(BaseStream[UploadEvent]):
    """What Upload and AsyncUpload share."""

    _source: Source | None = None

    def finish(self) -> None:
        """Ends a document of unknown length that was written piece by piece."""
        self._check_open()
        check = StatusCheck()
        check(c.confer_stream_finish(self._handle.raw, check.error))

    def _write(self, content: memoryview, timeout_ms: int) -> int:
        """Writes the first bytes, at most a piece, and returns how many."""
        self._check_open()
        check, written = StatusCheck(), ctypes.c_size_t()
        piece = bytes(content[:_PIECE])
        check(
            c.confer_stream_write(
                self._handle.raw, piece, len(piece), timeout_ms, ctypes.byref(written), check.error
            )
        )
        return written.value

    def _cause(self, error: Error) -> BaseException | None:
        stopped = error.status == Status.STOPPED and self._source is not None
        return self._source.failure if stopped and self._source else None


class Upload(BaseUpload, Stream[UploadEvent]):
    """A document on its way, and its content: UploadProgress, then Body with JSON in pieces."""

    def __init__(self, handle: Owned[c.confer_stream], source: Source | None) -> None:
        super().__init__(handle)
        self._source = source

    def __enter__(self) -> Upload:
        return self

    def write(self, content: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Writes the next bytes of the document. Waits while the library keeps 1 MiB unsent.

        Another thread may read the stream. `Status.STALE`: the upload has ended, for example because
        the answer came early.
        """
        left = memoryview(content).cast("B")
        for timeout_ms in waits(timeout):
            left = left[self._write(left, timeout_ms) :]
            if not left:
                return
        raise TimeoutError("the upload took too long")


def open_stream(client: Owned[c.confer_client], start: Start, callbacks: Any = None) -> Owned[c.confer_stream]:
    """Starts a request, or opens a watch. A request keeps its client, as in the library."""
    check, keeps = StatusCheck(), None if start is c.confer_client_watch else client
    stream = Owned(c.confer_stream(), c.confer_stream_free, keeps)
    check(start(client.raw, callbacks, ctypes.byref(stream.raw), check.error))
    return stream
