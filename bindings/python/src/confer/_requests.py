"""Requests and conversations."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from . import _abi as c
from ._constants import Ending, Role
from ._errors import StatusCheck, milliseconds
from ._native import Owned, destroyed, expected, function, known, pairs, registered, target, text, utf8

#: Starts a request: client, callbacks, stream and error as in confer_chat_stream().
Start = Callable[[c.confer_client, Any, Any, Any], int]

#: Runs a tool: receives the arguments as JSON text, and returns the result for the model.
ToolFunction = Callable[[str], Union[str, Awaitable[str]]]


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    content: str = field(repr=False)
    role: Role = Role.USER


@dataclass(frozen=True)
class Tool:
    """A tool that the model may call."""

    name: str
    description: str = field(default="", repr=False)
    #: The JSON Schema of the arguments.
    parameters: Mapping[str, object] = field(default_factory=lambda: {"type": "object"}, repr=False)
    #: Runs the tool. An AsyncClient also takes coroutine functions. The model receives the text of an
    #: exception as "Error: …". Without a function, the tool's calls are events.
    run: ToolFunction | None = field(default=None, repr=False)


class Conversation:
    """A history of messages, which chats continue and extend. It exists only in this process."""

    __slots__ = ("_handle", "_json")

    def __init__(self, document: str | None = None) -> None:
        """Creates a conversation without messages, or reads one from `Conversation.json`."""
        check, self._handle = StatusCheck(), Owned(c.confer_conversation(), c.confer_conversation_free)
        made = ctypes.byref(self._handle.raw)
        if document is None:
            check(c.confer_conversation_new(made, check.error))
        else:
            content = utf8(document)
            check(c.confer_conversation_parse(content, len(content), made, check.error))
        # The library's text is valid until the next call.
        self._json = threading.Lock()

    def __len__(self) -> int:
        """The number of messages."""
        return c.confer_conversation_message_count(self._handle.raw)

    def __bool__(self) -> bool:
        return True

    @property
    def json(self) -> str:
        """The conversation as a JSON document, with all messages: protect it accordingly."""
        with self._json:
            return text(c.confer_conversation_json, self._handle.raw) or ""

    @property
    def context_tokens(self) -> int | None:
        """The number of tokens at the last completion."""
        return known(c.confer_conversation_context_tokens(self._handle.raw, None))

    @property
    def max_context_tokens(self) -> int | None:
        most = ctypes.c_int64(-1)
        c.confer_conversation_context_tokens(self._handle.raw, ctypes.byref(most))
        return known(most.value)

    def add(self, role: Role, content: str) -> None:
        """Appends a message."""
        check, value = StatusCheck(), utf8(content)
        check(c.confer_conversation_add_message(self._handle.raw, role, value, len(value), check.error))

    def truncate(self, count: int) -> None:
        """Drops all messages after the first `count`."""
        check = StatusCheck()
        check(c.confer_conversation_truncate(self._handle.raw, count, check.error))


@dataclass
class ChatRequest:
    """A chat. None is the server's default."""

    #: A text is a message of the user. A mapping is sent unchanged, for example with imageRefs.
    messages: str | Sequence[Message | str | Mapping[str, object]] = field(default=(), repr=False)
    model: str | None = None
    #: Allows the enclave to send queries, made from the conversation, to a search service.
    web_search: bool = False
    #: False: the answer is one Body, without tools, and it is not added to a conversation.
    streaming: bool = True
    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    #: -1 for all tokens.
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    #: Whether the answer must be JSON.
    json: bool | None = None
    #: Whether the model reasons before it answers.
    thinking: bool | None = None
    #: Stored documents. Servers need attachmentId, filename, contentType, sourceObjectKey,
    #: encryptionKey and sourceBytes.
    documents: Sequence[Mapping[str, object]] = field(default=(), repr=False)
    tools: Sequence[Tool] = ()
    #: Rounds of tool calls that are answered in this chat. None: 16 if a tool has a function, else 0:
    #: the chat then ends with the calls, and the next request has the results.
    tool_rounds: int | None = None
    #: The time for each answer, in seconds.
    tool_timeout: float = 300
    #: The history that this chat continues. A chat that fails adds nothing to it.
    conversation: Conversation | None = field(default=None, repr=False)
    #: Any other properties, as JSON values.
    properties: Mapping[str, object] = field(default_factory=dict, repr=False)

    def _rounds(self) -> int:
        if self.tool_rounds is not None:
            return self.tool_rounds
        return 16 if any(tool.run for tool in self.tools) else 0


def start_chat(request: ChatRequest) -> Start:
    expected(ChatRequest, request)
    check, owned = StatusCheck(), Owned(c.confer_chat_request(), c.confer_chat_request_free)
    check(c.confer_chat_request_new(ctypes.byref(owned.raw), check.error))
    chat, error = owned.raw, check.error
    messages = [request.messages] if isinstance(request.messages, str) else request.messages
    for message in messages:
        if isinstance(message, str):
            message = Message(message)
        if isinstance(message, Message):
            value = utf8(message.content)
            check(c.confer_chat_request_add_message(chat, message.role, value, len(value), error))
        else:
            value = _json(message)
            check(c.confer_chat_request_add_message_json(chat, value, len(value), error))
    if request.model is not None:
        value = utf8(request.model)
        check(c.confer_chat_request_set_model(chat, value, len(value), error))
    check(c.confer_chat_request_set_web_search(chat, request.web_search, error))
    check(c.confer_chat_request_set_streaming(chat, request.streaming, error))
    if request.temperature is not None:
        check(c.confer_chat_request_set_temperature(chat, request.temperature, error))
    if request.top_p is not None:
        check(c.confer_chat_request_set_top_p(chat, request.top_p, error))
    if request.min_p is not None:
        check(c.confer_chat_request_set_min_p(chat, request.min_p, error))
    if request.top_k is not None:
        check(c.confer_chat_request_set_top_k(chat, request.top_k, error))
    if request.presence_penalty is not None:
        check(c.confer_chat_request_set_presence_penalty(chat, request.presence_penalty, error))
    if request.frequency_penalty is not None:
        check(c.confer_chat_request_set_frequency_penalty(chat, request.frequency_penalty, error))
    if request.repetition_penalty is not None:
        check(c.confer_chat_request_set_repetition_penalty(chat, request.repetition_penalty, error))
    if request.max_tokens is not None:
        check(c.confer_chat_request_set_max_tokens(chat, request.max_tokens, error))
    if request.json is not None:
        check(c.confer_chat_request_set_json(chat, request.json, error))
    if request.thinking is not None:
        check(c.confer_chat_request_set_thinking(chat, request.thinking, error))
    for document in request.documents:
        value = _json(document)
        check(c.confer_chat_request_add_document_json(chat, value, len(value), error))
    for tool in request.tools:
        function("Tool.run", expected(Tool, tool).run)
        name, about, schema = utf8(tool.name), utf8(tool.description), _json(tool.parameters)
        check(
            c.confer_chat_request_add_tool(
                chat, name, len(name), about, len(about), schema, len(schema), error
            )
        )
    if rounds := request._rounds():
        limit = milliseconds("tool_timeout", request.tool_timeout)
        check(c.confer_chat_request_set_tool_rounds(chat, rounds, limit, error))
    if (conversation := request.conversation) is not None:
        check(c.confer_chat_request_set_conversation(chat, expected(Conversation, conversation)._handle.raw, error))
    for key, content in pairs("properties", request.properties):
        name, value = utf8(key), _json(content)
        check(c.confer_chat_request_set_property(chat, name, len(name), value, len(value), error))
    return lambda client, *rest: c.confer_chat_stream(client, owned.raw, *rest)


def start_embeddings(texts: Sequence[str], is_query: bool) -> Start:
    if isinstance(texts, str):
        raise TypeError("embed takes several texts: put one into a list")
    check, owned = StatusCheck(), Owned(c.confer_embeddings_request(), c.confer_embeddings_request_free)
    check(c.confer_embeddings_request_new(ctypes.byref(owned.raw), check.error))
    for content in texts:
        value = utf8(content)
        check(c.confer_embeddings_request_add_text(owned.raw, value, len(value), check.error))
    check(c.confer_embeddings_request_set_is_query(owned.raw, is_query, check.error))
    return lambda client, *rest: c.confer_embeddings_stream(client, owned.raw, *rest)


def start_fetch(url: str, headers: Mapping[str, str]) -> Start:
    check, owned, value = StatusCheck(), Owned(c.confer_fetch_request(), c.confer_fetch_request_free), utf8(url)
    check(c.confer_fetch_request_new(value, len(value), ctypes.byref(owned.raw), check.error))
    for key, content in pairs("headers", headers):
        name, value = utf8(key), utf8(content)
        check(
            c.confer_fetch_request_set_header(owned.raw, name, len(name), value, len(value), check.error)
        )
    return lambda client, *rest: c.confer_fetch_stream(client, owned.raw, *rest)


def start_raw(verb: str, path: str, body: str | None, ending: Ending) -> Start:
    check, owned = StatusCheck(), Owned(c.confer_raw_request(), c.confer_raw_request_free)
    name, route = utf8(verb), utf8(path)
    check(
        c.confer_raw_request_new(
            name, len(name), route, len(route), ending, ctypes.byref(owned.raw), check.error
        )
    )
    if body is not None:
        value = utf8(body)
        check(c.confer_raw_request_set_body(owned.raw, value, len(value), check.error))
    return lambda client, *rest: c.confer_raw_stream(client, owned.raw, *rest)


class Readable(Protocol):
    """A binary file, or anything like it."""

    def read(self, size: int, /) -> bytes: ...


@dataclass
class Source:
    """A file that a callback reads, and the exception that ended its reading."""

    file: Readable
    failure: BaseException | None = None


#: A document's content: its bytes, the path of a file, or an open binary file, which a thread of
#: the library reads.
Document = Union[bytes, bytearray, memoryview, "os.PathLike[str]", Readable]


def start_extraction(
    filename: str, document: Document | None, length: int | None, options: Mapping[str, object]
) -> tuple[Start, Source | None]:
    check, owned = StatusCheck(), Owned(c.confer_extraction_request(), c.confer_extraction_request_free)
    value = utf8(filename)
    check(c.confer_extraction_request_new(value, len(value), ctypes.byref(owned.raw), check.error))
    request, error = owned.raw, check.error
    for key, option in pairs("options", options):
        name, value = utf8(key), _json(option)
        check(c.confer_extraction_request_set_option(request, name, len(name), value, len(value), error))
    size = -1 if length is None else length
    source = None
    if document is None:
        check(c.confer_extraction_request_set_document_stream(request, size, error))
    elif isinstance(document, (bytes, bytearray, memoryview)):
        value = bytes(document)
        check(c.confer_extraction_request_set_document_bytes(request, value, len(value), error))
    elif isinstance(document, os.PathLike):
        value = os.fsencode(document)
        check(c.confer_extraction_request_set_document_file(request, value, len(value), error))
    elif not hasattr(document, "read"):
        raise TypeError(f"a document is bytes, a path or an open binary file, not {type(document).__name__}")
    else:
        source = Source(document)
        with registered(source) as data:
            check(
                c.confer_extraction_request_set_document_callback(
                    request, size, _read, data, destroyed, error
                )
            )
    return lambda client, *rest: c.confer_extraction_stream(client, owned.raw, *rest), source


def _read_piece(user_data: int, buffer: int, size: int) -> int:
    source: Source | None = target(user_data)
    if source is None:
        return -1
    try:
        content = source.file.read(size)
        if not isinstance(content, bytes) or len(content) > size:
            raise TypeError(f"read({size}) did not return at most {size} bytes")
        ctypes.memmove(buffer, content, len(content))
        return len(content)
    except BaseException as failure:
        source.failure = failure
        return -1


_read = c.confer_read_fn(_read_piece)


def _json(value: object) -> bytes:
    return utf8(json.dumps(value, ensure_ascii=False, allow_nan=False))
