// The configuration of a client.

import CConfer

/// The configuration of a client. A property that is nil has the library's default.
public struct Configuration: Sendable {
    /// The account's token. Printing a configuration never shows it.
    public var token: String
    /// The WebSocket's URL with its path, without the token. Default: Confer's service.
    public var endpoint: String?
    /// The trusted enclaves. Default: `Policy.production()`.
    public var policy: Policy?
    /// A file that stores Intel's key sets for other processes. Default: no file.
    public var jwksCacheFile: String?
    /// Time limit of connecting. Default: a minute.
    public var connectTimeout: Duration?
    /// Longest silence during a request. Default: three minutes for streamed chats, ten minutes for
    /// others.
    public var idleTimeout: Duration?
    /// The interval of pings, and the longest wait for an answer. Default: 20 seconds each.
    public var keepalive, deadPeer: Duration?

    /// Provides a token within 30 seconds for each connection, even the first, instead of `token`.
    /// With `reconnect`, it is also called a minute before the last token expires, if that is a JWT
    /// with an expiry. If it throws, the attempt fails with `.token` and the name of the error's
    /// type, but no other detail.
    public var tokenProvider: (@Sendable () async throws -> String)?
    /// Controls reconnecting. Default: none, so the client ends with its connection.
    public var reconnect: Reconnect?
    /// The age at which a new, verified connection replaces the current one: 10 seconds or more.
    /// Without `reconnect`, the client ends at this age with `.expired`. Default: no limit.
    public var maxAge: Duration?
    /// Also replaces a connection before its evidence expires.
    public var renewsWithEvidence = false
    /// Longest silence after `Client.networkChanged()`. Default: 5 seconds.
    public var probeTimeout: Duration?
    /// Receives connection events on a thread of the client. It must return quickly.
    public var onConnectionChange: (@Sendable (ConnectionChange) -> Void)?

    public var proxy = Proxy.none
    public var roots = Roots.bundled
    public var limits = Limits()

    public init(token: String, endpoint: String? = nil, policy: Policy? = nil) {
        self.token = token
        self.endpoint = endpoint
        self.policy = policy
    }

    public init(
        endpoint: String? = nil, policy: Policy? = nil, tokenProvider: @escaping @Sendable () async throws -> String
    ) {
        self.init(token: "", endpoint: endpoint, policy: policy)
        self.tokenProvider = tokenProvider
    }

    /// Controls reconnecting. Every new connection is fully verified. An unsent request is sent on
    /// the next connection. A sent one fails, and the error's progress says how far it had come. No
    /// request is sent twice.
    public struct Reconnect: Sendable, Hashable {
        /// Number of failed attempts in a row after which the client ends with the last error.
        public var attempts: UInt32
        /// Longest random pause before the first attempt. It doubles with each failure up to
        /// `maxDelay`.
        public var firstDelay, maxDelay: Duration

        public init(attempts: UInt32, firstDelay: Duration = .milliseconds(500), maxDelay: Duration = .seconds(30)) {
            self.attempts = attempts
            self.firstDelay = firstDelay
            self.maxDelay = maxDelay
        }
    }

    public enum Proxy: Sendable, Hashable {
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

    /// Limits of a client's memory in bytes, except for `requests`. A property that is nil has the
    /// library's default; see confer.h.
    public struct Limits: Sendable, Hashable {
        /// Unread on the only stream. Above this, the socket is not read.
        public var streamRest: UInt64?
        /// Unread on a stream. Above this, it fails with `.slowConsumer`.
        public var streamUnread: UInt64?
        /// Unread on all streams.
        public var clientUnread: UInt64?
        /// Of incomplete messages.
        public var unfinished: UInt64?
        /// Of unsent requests. Above this, new ones fail with `.tooMany`.
        public var unsent: UInt64?
        /// Open requests.
        public var requests: UInt64?

        public init() {}

        fileprivate var all: [(Int32, UInt64?)] {
            [
                (CONFER_LIMIT_STREAM_REST, streamRest), (CONFER_LIMIT_STREAM_UNREAD, streamUnread),
                (CONFER_LIMIT_CLIENT_UNREAD, clientUnread), (CONFER_LIMIT_UNFINISHED, unfinished),
                (CONFER_LIMIT_UNSENT, unsent), (CONFER_LIMIT_REQUESTS, requests),
            ]
        }
    }

    func native() throws -> Handle {
        let config = try Handle(free: confer_config_free) { confer_config_new($0, $1) }
        typealias SetText = (OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<OpaquePointer?>?) -> confer_status
        func set(_ value: String?, _ setter: SetText) throws {
            guard let value else { return }
            try call { error in withText(value) { setter(config.pointer, $0, $1, error) } }
        }
        func set(_ value: Duration?, _ keys: Int32...) throws {
            guard let value else { return }
            for key in keys { try call { confer_config_set_duration_ms(config.pointer, key, value.milliseconds, $0) } }
        }
        try set(tokenProvider == nil ? token : nil, confer_config_set_token)
        try set(endpoint, confer_config_set_endpoint)
        try set(jwksCacheFile, confer_config_set_jwks_cache_file)
        try set(connectTimeout, CONFER_DURATION_CONNECT)
        try set(idleTimeout, CONFER_DURATION_IDLE_EVENTS, CONFER_DURATION_IDLE_OTHER)
        try set(keepalive, CONFER_DURATION_KEEPALIVE)
        try set(deadPeer, CONFER_DURATION_DEAD_PEER)
        try set(probeTimeout, CONFER_DURATION_PROBE)
        try set(maxAge, CONFER_DURATION_MAX_AGE)
        if let reconnect {
            let attempts = UInt64(reconnect.attempts)
            try call { confer_config_set_limit(config.pointer, CONFER_LIMIT_ATTEMPTS, attempts, $0) }
            try set(reconnect.firstDelay, CONFER_DURATION_FIRST_RETRY)
            try set(reconnect.maxDelay, CONFER_DURATION_LONGEST_RETRY)
        }
        if renewsWithEvidence {
            try call { confer_config_set_renew_with_evidence(config.pointer, true, $0) }
        }
        switch proxy {
        case .none: break
        case .url(let url): try set(url, confer_config_set_proxy)
        case .environment: try call { confer_config_set_proxy_from_environment(config.pointer, $0) }
        }
        switch roots {
        case .bundled: break
        case .system: try call { confer_config_set_roots(config.pointer, CONFER_ROOTS_SYSTEM, $0) }
        case .pem(let certificates): try set(certificates, confer_config_set_roots_pem)
        }
        for case (let limit, let value?) in limits.all {
            try call { confer_config_set_limit(config.pointer, limit, value, $0) }
        }
        if let tokenProvider {
            try call {
                confer_config_set_token_provider(
                    config.pointer, { provideToken($0, $1) }, Box.retained(tokenProvider), { Box<TokenProvider>.release($0) }, $0)
            }
        }
        if let onConnectionChange {
            try call {
                confer_config_set_connection_callback(
                    config.pointer, { forwardConnectionEvent($0, $1) }, Box.retained(onConnectionChange),
                    { Box<ConnectionFunction>.release($0) }, $0)
            }
        }
        if let policy {
            try call { confer_config_set_policy(config.pointer, policy.handle.pointer, $0) }
        }
        return config
    }
}

extension Configuration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "Configuration(endpoint: \(endpoint ?? "default"))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["endpoint": endpoint as Any]) }
}

extension Duration {
    /// Whole milliseconds. A time that is negative or too long becomes one that the library
    /// refuses.
    var milliseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0, seconds < 1 << 40 else { return .max }
        // Rounds up, because 0 may mean "any".
        return UInt64(seconds) * 1_000 + UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
