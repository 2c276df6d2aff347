"""Events of requests and of clients, as copies."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union

from . import _abi as c
from ._constants import EventType, Stage, Status, TokenReason
from ._errors import Error, StatusCheck, made, read_error
from ._native import Owned, known, raw, text, utf8
from ._report import Report, read_report

# --- events of requests ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """Text to append to the answer."""

    text: str = field(repr=False)
    #: The received event. All events of a chat have it.
    json: str = field(repr=False)


@dataclass(frozen=True)
class Thinking:
    """Reasoning text."""

    text: str = field(repr=False)
    json: str = field(repr=False)


@dataclass(frozen=True)
class ServerToolCall:
    """The server runs one of its tools."""

    id: str | None
    name: str | None
    #: JSON text.
    arguments: str | None = field(repr=False)
    json: str = field(repr=False)


@dataclass(frozen=True)
class ServerToolResponse:
    """The result of a server's tool."""

    id: str | None
    name: str | None
    content: str | None = field(repr=False)
    #: The complete result, which a message history needs. `content` can be a shorter one.
    full_content: str | None = field(repr=False)
    json: str = field(repr=False)


@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool of the application.

    If `wants_answer` is true, answer it with `answer` or `fail`, at once or later, on any thread.
    Otherwise send the result with the next request.
    """

    id: str | None
    name: str | None
    #: JSON text.
    arguments: str | None = field(repr=False)
    json: str = field(repr=False)
    _event: Owned[c.confer_event] | None = field(repr=False, compare=False)

    @property
    def wants_answer(self) -> bool:
        return self._event is not None

    def answer(self, content: str) -> None:
        """Gives the tool's result. `Status.STALE`: it was answered before, or too late."""
        check, value = StatusCheck(), utf8(content)
        check(c.confer_event_answer_tool(_asked(self._event), value, len(value), check.error))

    def fail(self, reason: str) -> None:
        """Answers with a failure. The model reads "Error: " and the reason."""
        check, value = StatusCheck(), utf8(reason)
        check(c.confer_event_fail_tool(_asked(self._event), value, len(value), check.error))


@dataclass(frozen=True)
class Completion:
    """The end of an answer of the model: with rounds of tools, of each round."""

    #: The answer calls tools of the application. With rounds of tools the stream continues when all
    #: are answered; otherwise the next request has the results.
    pending_tool_calls: bool
    #: The tokens of the conversation, and their maximum.
    context_tokens: int | None
    max_context_tokens: int | None
    json: str = field(repr=False)


@dataclass(frozen=True)
class Body:
    """A piece of an answer that does not come in events. It may end within a character."""

    content: bytes = field(repr=False)
    #: The received bytes, with this piece, and the length of the answer.
    received: int
    total: int | None


@dataclass(frozen=True)
class UploadProgress:
    """A part of an upload was sent."""

    sent: int
    total: int | None


@dataclass(frozen=True)
class Embeddings:
    """The answer to an embeddings request: one row for each text."""

    rows: list[list[float]] = field(repr=False)


@dataclass(frozen=True)
class Pong:
    """The answer to a ping."""

    #: Seconds.
    round_trip: float


@dataclass(frozen=True)
class OtherEvent:
    """An event of a type that this version does not know."""

    type: EventType
    json: str | None = field(repr=False)


# --- events of clients ----------------------------------------------------------------------------


@dataclass(frozen=True)
class StageBegan:
    """A stage of connecting began."""

    stage: Stage


@dataclass(frozen=True)
class Connected:
    """The client has a verified connection."""

    report: Report
    #: The release has changed since the previous Connected of this watch, even if it has changed back.
    release_changed: bool


@dataclass(frozen=True)
class Disconnected:
    """The connection broke, and the client makes another one."""

    error: Error | None


@dataclass(frozen=True)
class Retry:
    """The next attempt to connect."""

    #: Counts attempts in a row from 1. The first attempt of a client has no event.
    attempt: int
    #: Seconds until the attempt.
    delay: float
    #: The failure of the previous attempt. None for the first one after a lost connection.
    error: Error | None


@dataclass(frozen=True)
class TokenQuestion:
    """The client needs a token. Answer within `Duration.ANSWER`, on any thread."""

    reason: TokenReason
    _event: Owned[c.confer_event] = field(repr=False, compare=False)

    def answer(self, token: str) -> None:
        """Gives a token. After an invalid one the question stays open. `Status.STALE`: it is over."""
        check, value = StatusCheck(), utf8(token)
        check(c.confer_event_answer_token(self._event.raw, value, len(value), check.error))

    def refuse(self, reason: str) -> None:
        """Gives no token. The reason becomes part of errors and of the log: no secrets in it."""
        check, value = StatusCheck(), utf8(reason)
        check(c.confer_event_refuse_token(self._event.raw, value, len(value), check.error))


@dataclass(frozen=True)
class ReleaseQuestion:
    """The enclave's release differs from the previous one. Answer within `Duration.ANSWER`."""

    previous: Report
    now: Report
    _event: Owned[c.confer_event] = field(repr=False, compare=False)

    def answer(self, accept: bool) -> None:
        """Accepts this release and no other, or refuses it, which ends the client."""
        check = StatusCheck()
        check(c.confer_event_answer_release(self._event.raw, accept, check.error))


@dataclass(frozen=True)
class Answered:
    """The open question is over: it was answered, or its answer is no longer needed."""


ChatEvent = Union[
    Token, Thinking, ServerToolCall, ServerToolResponse, ToolCall, Completion, Body, OtherEvent
]
UploadEvent = Union[UploadProgress, Body, OtherEvent]
RequestEvent = Union[ChatEvent, UploadProgress, Embeddings, Pong]
ClientEvent = Union[
    StageBegan, Connected, Disconnected, Retry, TokenQuestion, ReleaseQuestion, Answered, OtherEvent
]


def read_event(event: c.confer_event) -> RequestEvent | ClientEvent:
    """Copies an event, which is lent."""
    kind = c.confer_event_type(event)
    if kind == EventType.TOKEN:
        return Token(text(c.confer_event_content, event) or "", _json(event))
    if kind == EventType.BODY:
        received, total = _counts(c.confer_event_received, event)
        return Body(raw(c.confer_event_content, event) or b"", received, total)
    read = _READERS.get(kind)
    return read(event) if read else OtherEvent(EventType(kind), text(c.confer_event_json, event))


def _json(event: c.confer_event) -> str:
    return text(c.confer_event_json, event) or ""


def _counts(getter: Callable[[c.confer_event, Any], int], event: c.confer_event) -> tuple[int, int | None]:
    total = ctypes.c_int64()
    moved = getter(event, ctypes.byref(total))
    return moved, known(total.value)


def _kept(event: c.confer_event) -> Owned[c.confer_event]:
    """Clones an event, to answer it later."""
    return Owned(c.confer_event_clone(event), c.confer_event_free)


def _asked(event: Owned[c.confer_event] | None) -> c.confer_event:
    if event is None:
        raise made(Status.INVALID_ARGUMENT, "this tool call wants no answer")
    return event.raw


def _server_tool_call(event: c.confer_event) -> ServerToolCall:
    return ServerToolCall(
        text(c.confer_event_tool_call_id, event),
        text(c.confer_event_tool_name, event),
        text(c.confer_event_tool_arguments, event),
        _json(event),
    )


def _server_tool_response(event: c.confer_event) -> ServerToolResponse:
    return ServerToolResponse(
        text(c.confer_event_tool_call_id, event),
        text(c.confer_event_tool_name, event),
        text(c.confer_event_content, event),
        text(c.confer_event_full_content, event),
        _json(event),
    )


def _tool_call(event: c.confer_event) -> ToolCall:
    return ToolCall(
        text(c.confer_event_tool_call_id, event),
        text(c.confer_event_tool_name, event),
        text(c.confer_event_tool_arguments, event),
        _json(event),
        _kept(event) if c.confer_event_wants_answer(event) else None,
    )


def _completion(event: c.confer_event) -> Completion:
    return Completion(
        c.confer_event_pending_tool_calls(event),
        known(c.confer_event_context_tokens(event)),
        known(c.confer_event_max_context_tokens(event)),
        _json(event),
    )


def _embeddings(event: c.confer_event) -> Embeddings:
    rows, columns = ctypes.c_size_t(), ctypes.c_size_t()
    address = c.confer_event_embeddings(event, ctypes.byref(rows), ctypes.byref(columns))
    if address is None:
        return Embeddings([])
    values = (ctypes.c_float * (rows.value * columns.value)).from_address(address)
    width = columns.value
    return Embeddings([values[row * width : (row + 1) * width] for row in range(rows.value)])


def _connected(event: c.confer_event) -> Connected:
    return Connected(read_report(c.confer_event_report(event)), c.confer_event_release_changed(event))


def _retry(event: c.confer_event) -> Retry:
    return Retry(
        c.confer_event_attempt(event),
        c.confer_event_delay_ms(event) / 1000,
        read_error(c.confer_event_error(event)),
    )


def _ask_release(event: c.confer_event) -> ReleaseQuestion:
    return ReleaseQuestion(
        read_report(c.confer_event_previous_report(event)),
        read_report(c.confer_event_report(event)),
        _kept(event),
    )


_READERS: dict[int, Callable[[c.confer_event], RequestEvent | ClientEvent]] = {
    EventType.THINKING: lambda e: Thinking(text(c.confer_event_content, e) or "", _json(e)),
    EventType.SERVER_TOOL_CALL: _server_tool_call,
    EventType.SERVER_TOOL_RESPONSE: _server_tool_response,
    EventType.CLIENT_TOOL_CALL: _tool_call,
    EventType.COMPLETION: _completion,
    EventType.PROGRESS: lambda e: UploadProgress(*_counts(c.confer_event_sent, e)),
    EventType.EMBEDDINGS: _embeddings,
    EventType.PONG: lambda e: Pong(c.confer_event_round_trip_us(e) / 1e6),
    EventType.STAGE: lambda e: StageBegan(Stage(c.confer_event_stage(e))),
    EventType.CONNECTED: _connected,
    EventType.DISCONNECTED: lambda e: Disconnected(read_error(c.confer_event_error(e))),
    EventType.RETRY: _retry,
    EventType.ASK_TOKEN: lambda e: TokenQuestion(TokenReason(c.confer_event_token_reason(e)), _kept(e)),
    EventType.ASK_RELEASE: _ask_release,
    EventType.ANSWERED: lambda e: Answered(),
}
