"""The client with calls that wait."""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
import weakref
from collections.abc import Mapping, Sequence

from . import _abi as c
from ._config import BaseConfig, Config
from ._constants import Counter, Ending, State, Status
from ._errors import Error, StatusCheck, made
from ._events import Body, ClientEvent, Embeddings, Pong, ReleaseQuestion, RequestEvent, TokenQuestion
from ._native import Exit, Owned, ever_registered, expected, returned_text, utf8
from ._report import Report, read_report
from ._requests import (
    ChatRequest,
    Document,
    start_chat,
    start_embeddings,
    start_extraction,
    start_fetch,
    start_raw,
)
from ._stream import ChatStream, Stream, Upload, open_stream, waits

#: The clients that live or start, by the id of their handle.
_clients: weakref.WeakValueDictionary[int, Owned[c.confer_client]] = weakref.WeakValueDictionary()
#: How long the end of the process waits, in seconds, for the library's threads, if they may call
#: Python: for a log, for a document in an open file, or to wake an event loop.
_EXIT_LIMIT = 10.0
#: The time between two looks at the clients, in milliseconds.
_EXIT_TURN_MS = 10


@atexit.register
def _close_all() -> None:
    """Ends all callbacks, because they must not run after the end of the interpreter."""
    Exit.begun = True
    deadline = time.monotonic() + _EXIT_LIMIT
    while True:
        starting = False
        for reference in _clients.valuerefs():
            if client := reference():
                starting |= not client.raw
                # A client's threads end with the close that finds its callbacks ended.
                c.confer_close(client.raw, 0, None)
        if not ever_registered():
            return
        running = c.confer_runtime_wait(_EXIT_TURN_MS, None) == Status.TIMEOUT
        if not (starting or running) or time.monotonic() > deadline:
            return


class BaseClient:
    """What Client and AsyncClient share."""

    def __init__(self, config: BaseConfig[object, object]) -> None:
        native = config._native()
        check, self._handle = StatusCheck(), Owned(c.confer_client(), c.confer_client_free)
        # Before the start, so that the process cannot end in between.
        _clients[id(self._handle)] = self._handle
        try:
            if Exit.begun:
                raise made(Status.CLOSED, "the process ends")
            check(c.confer_connect_start(native.raw, ctypes.byref(self._handle.raw), check.error))
        except BaseException:
            _clients.pop(id(self._handle), None)
            Exit.pause_thread()
            raise

    @property
    def state(self) -> State:
        return State(c.confer_client_state(self._handle.raw))

    @property
    def error(self) -> Error | None:
        """The error with which the client ended. None while it lives, also between connections."""
        check = StatusCheck()
        try:
            check(c.confer_client_check(self._handle.raw, check.error))
        except Error as error:
            return error
        return None

    def report(self) -> Report:
        """Returns the report of the connection in use, or of the last one."""
        check, report = StatusCheck(), Owned(c.confer_report(), c.confer_report_free)
        check(c.confer_attestation_report(self._handle.raw, ctypes.byref(report.raw), check.error))
        return read_report(report.raw)

    def set_token(self, token: str) -> None:
        """Gives a fresh token. It answers an open question, or serves the next attempt to connect."""
        check, value = StatusCheck(), utf8(token)
        check(c.confer_client_set_token(self._handle.raw, value, len(value), check.error))

    def network_changed(self) -> None:
        """Checks the connection at once: call it after a change of the network, or after sleep."""
        check = StatusCheck()
        check(c.confer_client_network_changed(self._handle.raw, check.error))

    def counter(self, counter: Counter) -> int:
        return c.confer_client_counter(self._handle.raw, counter)

    def counters(self) -> dict[Counter, int]:
        return {counter: self.counter(counter) for counter in Counter}

    def _close(self, timeout_ms: int) -> bool:
        """Whether the client has ended."""
        check = StatusCheck()
        return check(c.confer_close(self._handle.raw, timeout_ms, check.error)) == Status.OK


class Client(BaseClient):
    """A client for its whole life: connecting, connected, reconnecting, ended.

    Creating one begins to connect, and returns at once. Requests can be started at once: they stay
    in this process until the enclave is verified. Entering a `with` block waits for that, and leaving
    the block closes the client. Any thread may use a client.
    """

    def __init__(self, config: Config | None = None) -> None:
        config = Config() if config is None else expected(Config, config)
        super().__init__(config)
        self._answers = None
        if config.token_provider is not None or config.accept_release is not None:
            self._answers = _Answers(config, self.watch())

    def __enter__(self) -> Client:
        try:
            self.wait()
        except BaseException:
            self._close(0)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the client is connected. Raises the client's error if it has ended."""
        for timeout_ms in waits(timeout):
            check = StatusCheck()
            try:
                status = check(c.confer_client_wait(self._handle.raw, timeout_ms, check.error))
            except Error as error:
                provider = self._answers.failure if self._answers and error.status == Status.TOKEN else None
                raise error from provider
            if status == Status.OK:
                return
        raise TimeoutError("the client is not connected yet")

    def close(self, timeout: float | None = None) -> None:
        """Ends the client and its streams, and waits for its callbacks. It can be called again."""
        for timeout_ms in waits(timeout):
            if self._close(timeout_ms):
                return
        raise TimeoutError("the client has not ended yet")

    def watch(self) -> Stream[ClientEvent]:
        """Opens a stream of the client's events. It begins with the present state and any open
        question. It ends after a close, or with the client's error."""
        return Stream(open_stream(self._handle, c.confer_client_watch))

    def chat(self, request: ChatRequest | str) -> ChatStream:
        """Sends a chat, and returns the stream of its answer."""
        if isinstance(request, str):
            request = ChatRequest(request)
        return ChatStream(open_stream(self._handle, start_chat(request)), request)

    def embed(self, texts: Sequence[str], *, is_query: bool = False) -> list[list[float]]:
        """Returns the embeddings of 1 to 64 texts: one row for each."""
        stream = Stream[Embeddings](open_stream(self._handle, start_embeddings(texts, is_query)))
        return [row for event in stream for row in event.rows]

    def extract(
        self,
        filename: str,
        document: Document | None = None,
        *,
        length: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Upload:
        """Uploads a document, and returns the stream of its content.

        `document`: None if `Upload.write` writes it. `length`: the length of a document that is
        written or read from an open file. Newer servers need it. `options`: such as content_type.
        """
        start, source = start_extraction(filename, document, length, options or {})
        return Upload(open_stream(self._handle, start), source)

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> Stream[Body]:
        """Makes the enclave fetch a page, and returns the stream of its HTML."""
        return Stream(open_stream(self._handle, start_fetch(url, headers or {})))

    def raw(
        self, verb: str, path: str, body: str | None = None, *, ending: Ending = Ending.ONE_RESPONSE
    ) -> Stream[RequestEvent]:
        """Sends a request to any route."""
        return Stream(open_stream(self._handle, start_raw(verb, path, body, ending)))

    def ping(self) -> float:
        """Sends a ping, and returns its round-trip time in seconds."""
        stream = Stream[Pong](open_stream(self._handle, c.confer_ping_stream))
        return sum(event.round_trip for event in stream)


class _Answers:
    """Answers a client's questions with the functions of its configuration, on one thread.

    It refers to a watch, and not to the client, so that a forgotten client still ends.
    """

    def __init__(self, config: Config, watch: Stream[ClientEvent]) -> None:
        #: The last exception of the token provider.
        self.failure: BaseException | None = None
        self._config = config
        threading.Thread(target=self._run, args=(watch,), name="confer-answers", daemon=True).start()

    def _run(self, watch: Stream[ClientEvent]) -> None:
        try:
            for event in watch:
                if isinstance(event, TokenQuestion) and self._config.token_provider:
                    self._give_token(event)
                elif isinstance(event, ReleaseQuestion) and self._config.accept_release:
                    self._decide(event)
        except Error:
            pass  # the client's own error

    def _give_token(self, question: TokenQuestion) -> None:
        provider = self._config.token_provider
        assert provider is not None
        try:
            token = returned_text("the token provider", provider(question.reason))
        except BaseException as failure:
            self.failure = failure
            # The exception may contain a secret.
            refuse(question, "the token provider failed")
            return
        answer(question, token)

    def _decide(self, question: ReleaseQuestion) -> None:
        decide = self._config.accept_release
        assert decide is not None
        try:
            accept = bool(decide(question.previous, question.now))
        except BaseException as failure:
            self.failure = failure
            accept = False
        decided(question, accept)


def answer(question: TokenQuestion, token: str) -> None:
    try:
        question.answer(token)
    except Error as error:
        refuse(question, error.message)


def refuse(question: TokenQuestion, reason: str) -> None:
    """Refuses a question. If it is over, nobody needs the answer."""
    try:
        question.refuse(reason)
    except Error:
        pass


def decided(question: ReleaseQuestion, accept: bool) -> None:
    try:
        question.answer(accept)
    except Error:
        pass
