// The table of statuses. A test compares it with confer.h, which explains each.

import CConfer

/// How a call or a stream failed. Later versions may add statuses.
public struct Status: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// The name of the constant in confer.h, such as `CONFER_E_REJECTED`.
    public var description: String { String(cString: confer_status_name(rawValue)) }

    // Mistakes of the caller.
    public static let invalidArgument = Status(rawValue: CONFER_E_INVALID_ARGUMENT)
    public static let invalidUTF8 = Status(rawValue: CONFER_E_INVALID_UTF8)
    public static let invalidURL = Status(rawValue: CONFER_E_INVALID_URL)
    public static let invalidJSON = Status(rawValue: CONFER_E_INVALID_JSON)
    public static let invalidPolicy = Status(rawValue: CONFER_E_INVALID_POLICY)
    public static let busy = Status(rawValue: CONFER_E_BUSY)
    public static let wouldDeadlock = Status(rawValue: CONFER_E_WOULD_DEADLOCK)
    public static let forked = Status(rawValue: CONFER_E_FORKED)
    public static let file = Status(rawValue: CONFER_E_FILE)
    public static let tooLarge = Status(rawValue: CONFER_E_TOO_LARGE)
    public static let tooMany = Status(rawValue: CONFER_E_TOO_MANY)
    public static let stale = Status(rawValue: CONFER_E_STALE)
    public static let notConnected = Status(rawValue: CONFER_E_NOT_CONNECTED)

    // Ended on this side.
    public static let cancelled = Status(rawValue: CONFER_E_CANCELLED)
    public static let closed = Status(rawValue: CONFER_E_CLOSED)
    public static let stopped = Status(rawValue: CONFER_E_STOPPED)
    public static let panic = Status(rawValue: CONFER_E_PANIC)
    public static let system = Status(rawValue: CONFER_E_SYSTEM)
    public static let token = Status(rawValue: CONFER_E_TOKEN)
    public static let expired = Status(rawValue: CONFER_E_EXPIRED)

    // Network.
    public static let resolve = Status(rawValue: CONFER_E_RESOLVE)
    public static let connect = Status(rawValue: CONFER_E_CONNECT)
    public static let tls = Status(rawValue: CONFER_E_TLS)
    public static let upgrade = Status(rawValue: CONFER_E_UPGRADE)
    public static let stageTimeout = Status(rawValue: CONFER_E_STAGE_TIMEOUT)
    public static let connectionLost = Status(rawValue: CONFER_E_CONNECTION_LOST)
    public static let deadPeer = Status(rawValue: CONFER_E_DEAD_PEER)
    public static let proxy = Status(rawValue: CONFER_E_PROXY)

    // The peer broke the protocol.
    public static let `protocol` = Status(rawValue: CONFER_E_PROTOCOL)
    public static let handshake = Status(rawValue: CONFER_E_HANDSHAKE)
    public static let decrypt = Status(rawValue: CONFER_E_DECRYPT)
    public static let frame = Status(rawValue: CONFER_E_FRAME)
    public static let limit = Status(rawValue: CONFER_E_LIMIT)
    public static let event = Status(rawValue: CONFER_E_EVENT)

    // The enclave was refused.
    public static let rejected = Status(rawValue: CONFER_E_REJECTED)
    public static let releaseRefused = Status(rawValue: CONFER_E_RELEASE_REFUSED)

    // The enclave answered with an error.
    public static let refused = Status(rawValue: CONFER_E_REFUSED)
    public static let unauthorized = Status(rawValue: CONFER_E_UNAUTHORIZED)
    public static let paymentRequired = Status(rawValue: CONFER_E_PAYMENT_REQUIRED)
    public static let streamIdle = Status(rawValue: CONFER_E_STREAM_IDLE)
    public static let slowConsumer = Status(rawValue: CONFER_E_SLOW_CONSUMER)
    public static let toolRounds = Status(rawValue: CONFER_E_TOOL_ROUNDS)
}
