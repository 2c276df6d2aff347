// The configuration of a client.

import CConfer

/// The configuration of a client. A property that is nil has the library's default.
public struct Configuration: Sendable {
    /// Gives a token for a connection within `DurationKey.answer`. If it throws, the
    /// client gets no token. Errors and the log then name the type of the thrown error, and nothing
    /// else of it.
    public typealias TokenProvider = @Sendable (TokenReason) async throws -> String
    /// Decides whether a release that differs from the previous one is accepted, within
    /// `DurationKey.answer`. If not, the client ends with `.releaseRefused`.
    public typealias ReleaseDecision = @Sendable (_ previous: Report, _ now: Report) async -> Bool

    /// Receives a record of the log.
    public typealias Log = @Sendable (LogLevel, _ target: String, _ message: String) -> Void

    /// The account's token. A client without it, `tokenProvider` and ``Questions/token`` throws
    /// `.invalidArgument`. Printing a configuration never shows it.
    public var token: String?
    /// The WebSocket's URL with its path, at most 2,048 bytes: `wss://`, or `ws://` for a loopback
    /// address. The library adds the token: a URL with a token, a user name or a password throws
    /// `.invalidURL`, like any other mistake in it. Default: Confer's service.
    public var endpoint: String?
    /// The trusted enclaves. Default: `Policy.production()`.
    public var policy: Policy?
    /// A file that stores Intel's key sets for other processes. Default: no file.
    public var jwksCacheFile: String?

    /// Called if there is no token, for each further connection, after the server refused a token,
    /// and a minute before a token expires, if it is a JWT with an expiry. When the question is
    /// over, its task is cancelled. The client keeps the closure until it ends: capture the client
    /// weakly, or close it.
    public var tokenProvider: TokenProvider?
    /// Decides about another release. Default: the policy decides.
    public var releaseDecision: ReleaseDecision?
    /// The questions that the application answers through ``Client/events``, in addition to those
    /// with a closure above.
    public var asks: Questions = []

    /// Also replaces a connection before its evidence expires.
    public var renewsWithEvidence = false
    /// Times. The defaults and bounds are in the table of `confer_config_set_duration_ms` in
    /// confer.h.
    public var durations: [DurationKey: Duration] = [:]
    /// Limits of memory and numbers. The defaults and bounds are in the table of
    /// `confer_config_set_limit` in confer.h.
    public var limits: [LimitKey: UInt64] = [:]

    /// The proxy of every connection.
    public var proxy = Proxy.none
    /// The authorities that the TLS connection trusts.
    public var roots = Roots.bundled

    /// Receives the log up to `logLevel`, on a thread of each client. It must return quickly. No
    /// record contains a token, prompt, answer or key.
    public var log: Log?
    /// The least important level that `log` receives.
    public var logLevel = LogLevel.info

    /// Makes a configuration with a token.
    public init(token: String? = nil, endpoint: String? = nil, policy: Policy? = nil) {
        self.token = token
        self.endpoint = endpoint
        self.policy = policy
    }

    /// Makes a configuration that asks a closure for each token.
    public init(endpoint: String? = nil, policy: Policy? = nil, tokenProvider: @escaping TokenProvider) {
        self.init(token: nil, endpoint: endpoint, policy: policy)
        self.tokenProvider = tokenProvider
    }

    /// Kinds of questions.
    public struct Questions: OptionSet, Sendable {
        /// The bits of CONFER_ASK_TOKEN and CONFER_ASK_RELEASE.
        public let rawValue: UInt32
        /// Makes a set from its bits.
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Asked with `ClientEvent.askToken`.
        public static let token = Questions(rawValue: UInt32(CONFER_ASK_TOKEN))
        /// Asked with `ClientEvent.askRelease`.
        public static let release = Questions(rawValue: UInt32(CONFER_ASK_RELEASE))
    }

    /// A time, in whole milliseconds.
    public enum DurationKey: Int32, Sendable, CaseIterable {
        /// Time limit of looking up a host name.
        case stageResolve = 0
        /// Time limit of connecting by TCP.
        case stageTCP = 1
        /// Time limit of negotiating TLS.
        case stageTLS = 2
        /// Time limit of the WebSocket upgrade.
        case stageUpgrade = 3
        /// Time limit of the Noise handshake.
        case stageHandshake = 4
        /// Time limit of fetching Intel's key set.
        case stageKeySet = 5
        /// Time limit of verifying.
        case stageVerify = 6
        /// Time limit of opening a tunnel through the proxy.
        case stageProxy = 7
        /// Time limit of all stages together.
        case connect = 100
        /// Time limit of an answer to a question.
        case answer = 101
        /// The interval between pings.
        case keepalive = 102
        /// Longest silence after a ping. Then the connection fails with `.deadPeer`.
        case deadPeer = 103
        /// Longest silence after ``Client/networkChanged()``.
        case probe = 104
        /// Longest silence in a streamed answer. Then it fails with `.streamIdle`.
        case idleEvents = 105
        /// Longest silence before or in any other answer. Then it fails with `.streamIdle`.
        case idleOther = 106
        /// The age at which a new, verified connection replaces the current one. If `attempts` is
        /// 0, the client ends at this age with `.expired`.
        case maxAge = 107
        /// Longest delay before the first retry. Doubles with each failure. The delay is a random
        /// part of it.
        case firstRetry = 108
        /// Longest delay before any retry.
        case longestRetry = 109
    }

    /// A limit of memory or number.
    public enum LimitKey: Int32, Sendable, CaseIterable {
        /// Unread bytes of a stream. Above this, the socket is not read if no other request is
        /// open.
        case streamRest = 0
        /// Unread bytes of a stream. Above this, it fails with `.slowConsumer`.
        case streamUnread = 1
        /// Unread bytes of all streams of a client.
        case clientUnread = 2
        /// Bytes of incomplete messages.
        case unfinished = 3
        /// Bytes of unsent requests. Above this, new requests fail with `.tooMany`, or with
        /// `.tooLarge` if one exceeds it.
        case unsent = 4
        /// Number of open requests.
        case requests = 5
        /// Number of attempts to connect that may fail in a row, including the first one. After the
        /// last, the client ends with its error. Default 0: the client ends with its connection.
        ///
        /// Every new connection is fully verified. An unsent request is sent on the next
        /// connection. A sent one fails, and the error's progress says how far it had come.
        case attempts = 6
    }

    /// How important a record of the log is.
    public enum LogLevel: Int32, Sendable, CaseIterable {
        /// Something failed.
        case error = 1
        /// Something works, but needs attention.
        case warn = 2
        /// Connections begin and end.
        case info = 3
        /// Details for those who search for a fault.
        case debug = 4
    }

    /// How a client reaches its endpoint.
    public enum Proxy: Sendable, Hashable {
        /// Directly.
        case none
        /// `http://host:port` or `socks5://host:port`, or with credentials
        /// `http://user:password@host:port`.
        case url(String)
        /// HTTPS_PROXY, ALL_PROXY and NO_PROXY, at the time of connecting.
        case environment
    }

    /// Selects the TLS roots. They do not affect the enclave's verification.
    public enum Roots: Sendable, Hashable {
        /// Mozilla's list, built into the library.
        case bundled
        /// The system's roots, at the time of connecting.
        case system
        /// The application's roots.
        case pem(String)
    }

    func native() throws -> Handle {
        let config = try Handle(free: confer_config_free) { confer_config_new($0, $1) }
        if let token { try set(config, to: token, confer_config_set_token) }
        if let endpoint { try set(config, to: endpoint, confer_config_set_endpoint) }
        if let jwksCacheFile { try set(config, to: jwksCacheFile, confer_config_set_jwks_cache_file) }
        for (key, value) in durations {
            try call { confer_config_set_duration_ms(config.pointer, key.rawValue, value.milliseconds, $0) }
        }
        for (key, value) in limits {
            try call { confer_config_set_limit(config.pointer, key.rawValue, value, $0) }
        }
        try call { confer_config_set_renew_with_evidence(config.pointer, renewsWithEvidence, $0) }
        var questions = asks
        if tokenProvider != nil { questions.insert(.token) }
        if releaseDecision != nil { questions.insert(.release) }
        try call { confer_config_set_ask(config.pointer, questions.rawValue, $0) }
        switch proxy {
        case .none: break
        case .url(let url): try set(config, to: url, confer_config_set_proxy)
        case .environment: try call { confer_config_set_proxy_from_environment(config.pointer, $0) }
        }
        switch roots {
        case .bundled: try call { confer_config_set_roots(config.pointer, CONFER_ROOTS_BUNDLED, $0) }
        case .system: try call { confer_config_set_roots(config.pointer, CONFER_ROOTS_SYSTEM, $0) }
        case .pem(let certificates): try set(config, to: certificates, confer_config_set_roots_pem)
        }
        if let log {
            try call {
                confer_config_set_log(
                    config.pointer, logLevel.rawValue,
                    { data, level, target, message in
                        let level = LogLevel(rawValue: level) ?? .debug
                        Box<Log>.value(data)(level, String(cString: target!), String(cString: message!))
                    }, Box.retained(log), { Box<Log>.release($0) }, $0)
            }
        }
        if let policy {
            try call { confer_config_set_policy(config.pointer, policy.handle.pointer, $0) }
        }
        return config
    }
}

extension Configuration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "Configuration" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Duration {
    /// Whole milliseconds. A time that is negative or too long becomes one that the library
    /// refuses.
    var milliseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0, seconds < 1 << 40 else { return .max }
        // Rounds up, because 0 may turn a time off.
        return UInt64(seconds) * 1_000 + UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
