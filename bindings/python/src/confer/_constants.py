"""The constants of confer.h. Written by generate.py; do not edit."""

from __future__ import annotations

from enum import IntFlag

from ._library import Constant

#: The version of the header.
__version__ = "0.1.0"


class Status(Constant):
    """The result of a call or a stream. Later versions may add members."""

    #: Success.
    OK = 0
    #: The time limit passed without a result. Not an error: wait again.
    TIMEOUT = 1
    #: The stream is complete: everything was read. Not an error.
    END = 2
    #: An argument is missing or outside its bounds; the message names it.
    INVALID_ARGUMENT = 100
    #: A text argument is not UTF-8; the message names it and the first bad byte.
    INVALID_UTF8 = 101
    #: The URL of the endpoint or the proxy is not one that this library connects to.
    INVALID_URL = 102
    #: An argument is not the expected JSON; the message has line and column.
    INVALID_JSON = 103
    #: The policy document is not valid; the message names the key.
    INVALID_POLICY = 104
    #: Another thread is in this call on the same handle, or the worker threads run already.
    BUSY = 105
    #: A callback made a call that waits.
    WOULD_DEADLOCK = 106
    #: The library was in use before this process was forked.
    FORKED = 107
    #: A local file cannot be read or written.
    FILE = 108
    #: An argument exceeds its limit.
    TOO_LARGE = 109
    #: Too many requests of the client are open, or too many bytes wait to be sent.
    TOO_MANY = 110
    #: The question, tool call or upload is already over: the call changes nothing.
    STALE = 111
    #: The client has not connected yet.
    NOT_CONNECTED = 112
    #: Cancelled by the application.
    CANCELLED = 200
    #: The client was closed.
    CLOSED = 201
    #: A callback returned a value other than 0.
    STOPPED = 202
    #: The library contained a defect. The handle is unusable; others are not affected. Please
    #: report it.
    PANIC = 203
    #: The system refused a thread, a descriptor, memory or randomness.
    SYSTEM = 204
    #: No token to connect with: the application gave none, and the message has its reason, or
    #: the server refused the only one.
    TOKEN = 205
    #: The connection reached its maximum age, or its evidence expired, and reconnecting is off.
    EXPIRED = 206
    #: The host name of the endpoint, or of the proxy, has no address.
    RESOLVE = 300
    #: No TCP connection to the endpoint, or to the proxy; the message has the failure of each
    #: address.
    CONNECT = 301
    #: No TLS session with the endpoint.
    TLS = 302
    #: The endpoint refused the WebSocket upgrade, for example because the token is not valid;
    #: see confer_error_http_status().
    UPGRADE = 303
    #: Connecting exceeded a time limit; the message names the stage.
    STAGE_TIMEOUT = 304
    #: The connection broke or was closed by the peer.
    CONNECTION_LOST = 305
    #: The peer no longer answers keepalive pings, and no byte was sent or received for the time
    #: limit.
    DEAD_PEER = 306
    #: The proxy refused the tunnel or failed to open it; see confer_error_http_status(). The
    #: status 407 means that it wants other credentials.
    PROXY = 307
    #: The peer broke the protocol of WebSocket messages or responses.
    PROTOCOL = 400
    #: The Noise handshake failed.
    HANDSHAKE = 401
    #: A Noise message fails authentication: it was altered, truncated, replayed or reordered.
    DECRYPT = 402
    #: A transport frame is malformed or breaks a reassembly rule.
    FRAME = 403
    #: The peer exceeded a limit.
    LIMIT = 404
    #: A streamed answer contains bytes that are not an event. Ends only that stream.
    EVENT = 405
    #: The enclave's evidence does not satisfy the policy. Only the token, with the upgrade, and
    #: the first handshake message were sent; see confer_error_check_id() and
    #: confer_error_report().
    REJECTED = 500
    #: The enclave satisfies the policy, but its release has changed, and the application did
    #: not accept it.
    RELEASE_REFUSED = 501
    #: The enclave answered with a status other than 200; see confer_error_http_status() and
    #: confer_error_peer_text().
    REFUSED = 600
    #: The enclave answered 401: it does not accept the token. Connect again with a fresh one.
    #: With Ask.TOKEN and reconnecting, the library has first asked for a fresh token and, if it
    #: got one, sent the request again.
    UNAUTHORIZED = 601
    #: The enclave answered 402, for example because a free account's token has expired.
    #: Otherwise like Status.UNAUTHORIZED.
    PAYMENT_REQUIRED = 602
    #: The request was silent for longer than its idle limit, or waited that long for a
    #: connection.
    STREAM_IDLE = 603
    #: The application reads a stream too slowly. Its unread data exceeds Limit.STREAM_UNREAD,
    #: or all streams together exceed a limit and this one holds more than an equal share; see
    #: confer_config_set_limit(). If it is the client's only request, the library stops reading
    #: the socket instead.
    SLOW_CONSUMER = 604
    #: The model still calls tools after the last allowed round; see
    #: confer_chat_request_set_tool_rounds().
    TOOL_ROUNDS = 605


class Role(Constant):
    """The author of a message. Later versions may add members."""

    #: The user.
    USER = 0
    #: An earlier answer of the model.
    ASSISTANT = 1
    #: Instructions of the system.
    SYSTEM = 2
    #: Instructions of the developer.
    DEVELOPER = 3
    #: A call of a tool by the model. The content is JSON text with `toolCallId`, `toolName` and
    #: `toolArguments`.
    TOOL_CALL = 4
    #: A tool's result. The content is JSON text with `toolCallId`, `toolName` and `content`.
    TOOL_RESPONSE = 5


class Progress(Constant):
    """How far a request got. Later versions may add members."""

    #: Nothing of the request was sent.
    NOT_SENT = 0
    #: At least a part of the request was handed to the network, so the enclave may have acted
    #: on it.
    MAYBE_SENT = 1
    #: The enclave had begun to answer. A refusal by a status is an answer too: its status says
    #: whether the enclave carried the request out.
    PARTLY_ANSWERED = 2


class Stage(Constant):
    """A stage of connecting. Later versions may add members."""

    #: Looks up the host name of the endpoint or the proxy.
    RESOLVE = 0
    #: Connects by TCP. Tries all addresses of the name, IPv6 and IPv4 in turn, each 250 ms
    #: after the previous one or when that has failed.
    TCP = 1
    #: Negotiates TLS with the endpoint. Does nothing for ws://.
    TLS = 2
    #: Requests the WebSocket upgrade, with the token.
    UPGRADE = 3
    #: Exchanges messages 1 and 2 of the Noise handshake.
    HANDSHAKE = 4
    #: Finds or fetches Intel's key set.
    KEY_SET = 5
    #: Verifies the evidence and, if it satisfies the policy, sends message 3.
    VERIFY = 6
    #: Opens a tunnel through the proxy, after Stage.TCP and before Stage.TLS. Skipped without a
    #: proxy.
    PROXY = 7
    #: All stages together, for confer_report_timing_us().
    ALL = 100


class Roots(Constant):
    """The certificate authorities that TLS trusts. Later versions may add members."""

    #: Trusts Mozilla's list of authorities, which is built into the library.
    BUNDLED = 0
    #: Trusts the system's authorities.
    SYSTEM = 1


class Duration(Constant):
    """A key of `Config.durations`. Later versions may add members."""

    #: Looking up the host name of the endpoint or the proxy. Keys below 100 are the numbers of
    #: Stage._*. In seconds: default 10, bounds 0.001 to 86,400.
    STAGE_RESOLVE = 0
    #: Connecting by TCP, over all addresses of the name. In seconds: default 10, bounds 0.001
    #: to 86,400.
    STAGE_TCP = 1
    #: Negotiating TLS. In seconds: default 10, bounds 0.001 to 86,400.
    STAGE_TLS = 2
    #: Upgrading to a WebSocket. In seconds: default 10, bounds 0.001 to 86,400.
    STAGE_UPGRADE = 3
    #: Messages 1 and 2 of the Noise handshake. In seconds: default 15, bounds 0.001 to 86,400.
    STAGE_HANDSHAKE = 4
    #: Finding or fetching Intel's key set. In seconds: default 15, bounds 0.001 to 86,400.
    STAGE_KEY_SET = 5
    #: Verifying the evidence and sending message 3. In seconds: default 15, bounds 0.001 to
    #: 86,400.
    STAGE_VERIFY = 6
    #: Opening a tunnel through the proxy. In seconds: default 10, bounds 0.001 to 86,400.
    STAGE_PROXY = 7
    #: All stages of connecting together. In seconds: default 60, bounds 0.001 to 86,400.
    CONNECT = 100
    #: The application's answer to a question: for a token, or about another release. In
    #: seconds: default 30, bounds 0.001 to 86,400.
    ANSWER = 101
    #: The interval between keepalive pings. In seconds: default 20, bounds 0.001 to 86,400.
    KEEPALIVE = 102
    #: Longest time that a ping may stay unanswered while no byte moves in either direction.
    #: Then the connection counts as dead: Status.DEAD_PEER. In seconds: default 20, bounds
    #: 0.001 to 86,400.
    DEAD_PEER = 103
    #: Longest silence of the enclave after confer_client_network_changed(). Then the connection
    #: counts as dead. In seconds: default 5, bounds 0.001 to 86,400.
    PROBE = 104
    #: Longest silence of a request whose answer ends with EventType.COMPLETION, such as a
    #: streamed chat. Then it fails with Status.STREAM_IDLE. A server can lose a streamed answer
    #: silently and still answer pings. In seconds: default 180, bounds 0.001 to 86,400.
    IDLE_EVENTS = 105
    #: The same for any other answer: the server may work for 10 minutes on a document, or on an
    #: answer without streaming. The same limits apply while a request waits for a connection,
    #: or for its turn to upload. In seconds: default 600, bounds 0.001 to 86,400.
    IDLE_OTHER = 106
    #: The age at which a new, verified connection replaces a working one. With retries on (see
    #: Limit.ATTEMPTS), the library makes the new connection first. Open requests finish on the
    #: old one; at most four old connections stay open for this. If no connection can be made,
    #: new requests wait, and fail with the last attempt's error after the last allowed attempt.
    #: The old connection continues for open requests. An error that is not retried ends the
    #: client. With retries off, the connection ends with Status.EXPIRED. In seconds: default 0,
    #: bounds 10 to 86,400, or 0.
    MAX_AGE = 107
    #: The longest delay before the first retry. This maximum doubles with each failure, and the
    #: delay is a random part of it. If the server asks for a longer delay, the library waits
    #: that long. In seconds: default 0.5, bounds 0.001 to 86,400.
    FIRST_RETRY = 108
    #: The longest delay before any retry, unless the server asks for a longer one. In seconds:
    #: default 30, bounds 0.001 to 86,400.
    LONGEST_RETRY = 109


class Limit(Constant):
    """A key of `Config.limits`. Later versions may add members."""

    #: Unread bytes of a stream. Above it the library stops reading the socket, if no other
    #: request is open. Default 1 MiB, bounds 64 KiB to 1 TiB.
    STREAM_REST = 0
    #: Unread bytes of a stream. Above it the stream fails with Status.SLOW_CONSUMER. Default 16
    #: MiB, bounds 64 KiB to 1 TiB.
    STREAM_UNREAD = 1
    #: Unread bytes of all streams of a client. Above it, streams with more than an equal share
    #: fail. Default 64 MiB, bounds 64 KiB to 1 TiB.
    CLIENT_UNREAD = 2
    #: Bytes of incomplete messages. Above it the connection fails with Status.LIMIT. Default 64
    #: MiB, bounds 64 KiB to 1 TiB.
    UNFINISHED = 3
    #: Bytes of requests that wait to be sent. Above it another request is refused with
    #: Status.TOO_MANY, and one that is larger than the limit itself with Status.TOO_LARGE. If
    #: the application answers token questions and retries are on, sent requests without an
    #: answer may hold as many bytes again, because they are repeated after status 401 or 402.
    #: Default 64 MiB, bounds 64 KiB to 1 TiB.
    UNSENT = 4
    #: Open requests. Above it another request is refused with Status.TOO_MANY. Default 4,096,
    #: bounds 1 to 1,000,000.
    REQUESTS = 5
    #: Number of attempts to connect that may fail one after the other; the first attempt of
    #: confer_connect_start() counts too. After the last one the client ends with its error. 0:
    #: the client ends with its connection. Each new connection is fully verified, with the same
    #: policy. A request that was not sent before the connection broke is sent on the next one.
    #: Other streams end with the connection's error, and confer_error_progress() says how far
    #: they got: nothing is sent twice. Requests started without a connection wait for one. A
    #: later connection that breaks within 10 s counts as a failed attempt. An error that is not
    #: retried, such as a refused enclave, ends the client at once: see the table of
    #: confer_error_retryable(). Default 0, bounds 1 to 4,294,967,295, or 0.
    ATTEMPTS = 6


class LogLevel(Constant):
    """The level of a log record. Later versions may add members."""

    #: Something failed.
    ERROR = 1
    #: Something is wrong, but the work continues.
    WARN = 2
    #: A connection was opened or closed.
    INFO = 3
    #: Each stage of connecting.
    DEBUG = 4


class State(Constant):
    """The state of a client. Later versions may add members."""

    #: The client is making its first connection.
    CONNECTING = 0
    #: The client has a verified connection.
    CONNECTED = 1
    #: The connection broke, and the client is making another one.
    RECONNECTING = 2
    #: The client has ended: see confer_client_check().
    ENDED = 3


class Counter(Constant):
    """A counter of a client. Later versions may add members."""

    #: Bytes sent by sockets, with TLS and WebSocket.
    BYTES_SENT = 0
    #: Bytes received from sockets.
    BYTES_RECEIVED = 1
    #: Whole messages sent: requests, chunks of documents, pings.
    MESSAGES_SENT = 2
    #: Whole messages received.
    MESSAGES_RECEIVED = 3
    #: Keepalive pings sent.
    PINGS_SENT = 4
    #: Keepalive pings answered.
    PINGS_ANSWERED = 5
    #: Round-trip time of the last answered ping in microseconds; 0 before the first. Leaves out
    #: pings that were open while a full stream stopped reading, because they measure the
    #: application.
    ROUND_TRIP_US = 6
    #: Verified connections, including the first one.
    CONNECTIONS = 7
    #: Failed attempts to reconnect.
    FAILED_ATTEMPTS = 8


class Outcome(Constant):
    """The outcome of a check. Later versions may add members."""

    #: The check holds.
    PASS = 0
    #: The policy tolerates the result, but the machine needs an update.
    WARN = 1
    #: The check does not hold.
    FAIL = 2
    #: The check could not run, because its input is missing. Rejects like a failure.
    SKIP = 3


class Ending(Constant):
    """The end of the answer to a raw request. Later versions may add members."""

    #: The answer is one response, in one EventType.BODY.
    ONE_RESPONSE = 0
    #: The answer comes in events, like that of a chat, and ends with EventType.COMPLETION.
    COMPLETION = 1
    #: The answer comes in pieces, each a EventType.BODY, and ends after Content-Length bytes.
    CONTENT_LENGTH = 2


class EventType(Constant):
    """The type of an event. Later versions may add members."""

    #: An event of an unknown type or without a type: see confer_event_json(). Not an error.
    OTHER = 0
    #: Text to append to the answer: confer_event_content().
    TOKEN = 1
    #: Reasoning text: confer_event_content().
    THINKING = 2
    #: The server runs one of its tools: confer_event_tool_name() and so on.
    SERVER_TOOL_CALL = 3
    #: That tool's result: confer_event_content(), confer_event_full_content().
    SERVER_TOOL_RESPONSE = 4
    #: The application must run this tool: see confer_chat_request_add_tool() and
    #: confer_event_wants_answer().
    CLIENT_TOOL_CALL = 5
    #: The end of an answer of the model. The stream ends after it, unless a round of tools
    #: follows: see confer_chat_request_set_tool_rounds().
    COMPLETION = 6
    #: A piece of an answer that does not come in events: a chat without streaming, a page, a
    #: document, any other response. See confer_event_content(), whose bytes may be no text and
    #: may end within a character, and confer_event_received().
    BODY = 7
    #: A part of an upload was sent: confer_event_sent().
    PROGRESS = 8
    #: The answer to an embeddings request: confer_event_embeddings().
    EMBEDDINGS = 9
    #: The answer to a ping: confer_event_round_trip_us().
    PONG = 10
    #: A stage of connecting began.
    STAGE = 100
    #: The client has a verified connection.
    CONNECTED = 101
    #: The connection broke.
    DISCONNECTED = 102
    #: The client connects again after a delay.
    RETRY = 103
    #: The client needs a token: confer_event_answer_token(), confer_event_refuse_token().
    ASK_TOKEN = 104
    #: The enclave's release differs from the previous one: confer_event_answer_release().
    ASK_RELEASE = 105
    #: The open question is over: it was answered, or its answer is no longer needed. A client
    #: has only one open question at a time.
    ANSWERED = 106


class Ask(IntFlag):
    """A question that the application answers."""

    #: The application answers EventType.ASK_TOKEN.
    TOKEN = 1
    #: The application answers EventType.ASK_RELEASE.
    RELEASE = 2


class TokenReason(Constant):
    """Why a token is needed. Later versions may add members."""

    #: The client has had no connection yet, and needs a token for one.
    FIRST = 0
    #: Another connection needs a token.
    RECONNECT = 1
    #: The token in use expires soon.
    EXPIRING = 2
    #: The server refused the last token: with HTTP status 401, 402 or 403 for the upgrade, with
    #: 500 for the upgrade if the token has expired, or with status 401 or 402 for a request.
    REFUSED = 3
