// The table of statuses. A test compares it with confer.h.

import CConfer

/// How a call or a stream failed. Later versions may add statuses.
public struct Status: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The value of the constant in confer.h.
    public let rawValue: Int32

    /// Makes a status from a constant of confer.h.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// The name of the constant in confer.h, such as `CONFER_E_REJECTED`.
    public var description: String { String(cString: confer_status_name(rawValue)) }

    // Mistakes of the caller.
    /// An argument is missing or outside its bounds; the message names it. Also for a configuration
    /// without a token, a provider of tokens and ``Configuration/Questions/token``.
    public static let invalidArgument = Status(rawValue: CONFER_E_INVALID_ARGUMENT)
    /// A text argument is not UTF-8; the message names it and the first bad byte.
    public static let invalidUTF8 = Status(rawValue: CONFER_E_INVALID_UTF8)
    /// The URL of the endpoint or the proxy is not one that this library connects to.
    public static let invalidURL = Status(rawValue: CONFER_E_INVALID_URL)
    /// An argument is not the expected JSON; the message has line and column.
    public static let invalidJSON = Status(rawValue: CONFER_E_INVALID_JSON)
    /// The policy document is not valid; the message names the key.
    public static let invalidPolicy = Status(rawValue: CONFER_E_INVALID_POLICY)
    /// Another thread is in this call on the same handle, or the worker threads run already.
    public static let busy = Status(rawValue: CONFER_E_BUSY)
    /// A closure of the log made a call that waits.
    public static let wouldDeadlock = Status(rawValue: CONFER_E_WOULD_DEADLOCK)
    /// The library was in use before this process was forked.
    public static let forked = Status(rawValue: CONFER_E_FORKED)
    /// A local file cannot be read or written.
    public static let file = Status(rawValue: CONFER_E_FILE)
    /// An argument exceeds its limit.
    public static let tooLarge = Status(rawValue: CONFER_E_TOO_LARGE)
    /// Too many requests of the client are open, or too many bytes wait to be sent.
    public static let tooMany = Status(rawValue: CONFER_E_TOO_MANY)
    /// The question, tool call or upload is already over: the call changes nothing.
    public static let stale = Status(rawValue: CONFER_E_STALE)
    /// The client has not connected yet.
    public static let notConnected = Status(rawValue: CONFER_E_NOT_CONNECTED)

    // Ended on this side.
    /// Cancelled by the application.
    public static let cancelled = Status(rawValue: CONFER_E_CANCELLED)
    /// The client was closed.
    public static let closed = Status(rawValue: CONFER_E_CLOSED)
    /// A callback stopped the stream. This package never does.
    public static let stopped = Status(rawValue: CONFER_E_STOPPED)
    /// The library contained a defect. The handle is unusable; others are not affected. Please
    /// report it.
    public static let panic = Status(rawValue: CONFER_E_PANIC)
    /// The system refused a thread, a descriptor, memory or randomness.
    public static let system = Status(rawValue: CONFER_E_SYSTEM)
    /// No token to connect with: the provider or the answer to a ``TokenQuestion`` gave none, and
    /// the message has the reason, or the server refused the only token. A configuration without
    /// any of them throws ``invalidArgument`` instead.
    public static let token = Status(rawValue: CONFER_E_TOKEN)
    /// The connection reached its maximum age, or its evidence expired, and reconnecting is off.
    public static let expired = Status(rawValue: CONFER_E_EXPIRED)

    // Network.
    /// The host name of the endpoint, or of the proxy, has no address.
    public static let resolve = Status(rawValue: CONFER_E_RESOLVE)
    /// No TCP connection to the endpoint, or to the proxy; the message has the failure of each
    /// address.
    public static let connect = Status(rawValue: CONFER_E_CONNECT)
    /// No TLS session with the endpoint.
    public static let tls = Status(rawValue: CONFER_E_TLS)
    /// The endpoint refused the WebSocket upgrade, for example because the token is not valid; see
    /// ``ConferError/httpStatus``.
    public static let upgrade = Status(rawValue: CONFER_E_UPGRADE)
    /// Connecting exceeded a time limit; the message names the stage.
    public static let stageTimeout = Status(rawValue: CONFER_E_STAGE_TIMEOUT)
    /// The connection broke or was closed by the peer.
    public static let connectionLost = Status(rawValue: CONFER_E_CONNECTION_LOST)
    /// The peer no longer answers keepalive pings, and no byte was sent or received for the time
    /// limit.
    public static let deadPeer = Status(rawValue: CONFER_E_DEAD_PEER)
    /// The proxy refused the tunnel or failed to open it; see ``ConferError/httpStatus``. The
    /// status 407 means that it wants other credentials.
    public static let proxy = Status(rawValue: CONFER_E_PROXY)

    // The peer broke the protocol.
    /// The peer broke the protocol of WebSocket messages or responses.
    public static let `protocol` = Status(rawValue: CONFER_E_PROTOCOL)
    /// The Noise handshake failed.
    public static let handshake = Status(rawValue: CONFER_E_HANDSHAKE)
    /// A Noise message fails authentication: it was altered, truncated, replayed or reordered.
    public static let decrypt = Status(rawValue: CONFER_E_DECRYPT)
    /// A transport frame is malformed or breaks a reassembly rule.
    public static let frame = Status(rawValue: CONFER_E_FRAME)
    /// The peer exceeded a limit.
    public static let limit = Status(rawValue: CONFER_E_LIMIT)
    /// A streamed answer contains bytes that are not an event. Ends only that stream.
    public static let event = Status(rawValue: CONFER_E_EVENT)

    // The enclave was refused.
    /// The enclave's evidence does not satisfy the policy. Only the token, with the upgrade, and
    /// the first handshake message were sent; see ``ConferError/checkID`` and
    /// ``ConferError/report``.
    public static let rejected = Status(rawValue: CONFER_E_REJECTED)
    /// The enclave satisfies the policy, but its release has changed, and the application did not
    /// accept it.
    public static let releaseRefused = Status(rawValue: CONFER_E_RELEASE_REFUSED)

    // The enclave answered with an error.
    /// The enclave answered with a status other than 200; see ``ConferError/httpStatus`` and
    /// ``ConferError/peerText``.
    public static let refused = Status(rawValue: CONFER_E_REFUSED)
    /// The enclave answered 401: it does not accept the token. Connect again with a fresh one. With
    /// a token provider and reconnecting, the library has first asked for a fresh token and, if it
    /// got one, sent the request again.
    public static let unauthorized = Status(rawValue: CONFER_E_UNAUTHORIZED)
    /// The enclave answered 402, for example because a free account's token has expired. Otherwise
    /// like ``unauthorized``.
    public static let paymentRequired = Status(rawValue: CONFER_E_PAYMENT_REQUIRED)
    /// The request was silent for longer than its idle limit, or waited that long for a connection.
    public static let streamIdle = Status(rawValue: CONFER_E_STREAM_IDLE)
    /// The application reads a stream too slowly. Its unread data exceeds
    /// ``Configuration/LimitKey/streamUnread``, or all streams together exceed a limit and this one
    /// holds more than an equal share. If it is the client's only request, the library stops
    /// reading the socket instead.
    public static let slowConsumer = Status(rawValue: CONFER_E_SLOW_CONSUMER)
    /// The model still calls tools after the last allowed round; see ``ChatRequest/maxToolRounds``.
    public static let toolRounds = Status(rawValue: CONFER_E_TOOL_ROUNDS)
}
