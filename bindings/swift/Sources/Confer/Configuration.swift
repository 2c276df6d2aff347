// Where to connect and what is trusted.

import CConfer

/// What a client is made from. What is left nil has the library's default.
public struct Configuration: Sendable {
    /// The account's token. No way of printing a configuration shows it.
    public var token: String
    /// The URL of the WebSocket, path included, without the token. Default: Confer's own service.
    public var endpoint: String?
    /// What is trusted. Default: `Policy.production()`.
    public var policy: Policy?
    /// A file that keeps Intel's key sets between processes. Default: none.
    public var jwksCacheFile: String?
    /// Bounds connecting. Default: a minute.
    public var connectTimeout: Duration?
    /// How long nothing may come for a request. Default: three minutes for streamed chats, ten for all else.
    public var idleTimeout: Duration?
    /// The time between pings, and how long one may stay unanswered. Default: 20 seconds each.
    public var keepalive, deadPeer: Duration?

    /// Gives a token for each connection, the first one too, in the place of `token`, within 15 seconds. With `reconnect`
    /// it is also asked a minute before the last token ends, if that is a JWT that says when. Where it throws, the attempt
    /// fails with `.token` and the name of the error's type: nothing else of it is repeated.
    public var tokenProvider: (@Sendable () async throws -> String)?
    /// Whether a connection that breaks is made again. Default: no, and the client ends with it.
    public var reconnect: Reconnect?
    /// The age at which a connection is replaced by a fresh one, which is verified anew: 10 seconds or more. Without
    /// `reconnect` the client ends then, with `.expired`. Default: never.
    public var maxAge: Duration?
    /// Replaces it no later than at the time at which its evidence expires, too.
    public var renewsWithEvidence = false
    /// How long the enclave may be silent after `Client.networkChanged()`. Default: 5 seconds.
    public var probeTimeout: Duration?
    /// Told what becomes of the connection, on a thread of the client's own, which it must not hold up.
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

    /// How a connection that broke is made again. Each goes through the whole verification. A request that was not sent yet
    /// is sent on the next connection; of others the stream fails, and the error's progress says how far they had come:
    /// nothing is sent twice.
    public struct Reconnect: Sendable, Hashable {
        /// How many may fail in a row before the client ends with the last one's error.
        public var attempts: UInt32
        /// Bounds the random pause before an attempt, and doubles with each failure up to `maxDelay`.
        public var firstDelay, maxDelay: Duration

        public init(attempts: UInt32, firstDelay: Duration = .milliseconds(500), maxDelay: Duration = .seconds(30)) {
            self.attempts = attempts
            self.firstDelay = firstDelay
            self.maxDelay = maxDelay
        }
    }

    public enum Proxy: Sendable, Hashable {
        case none
        /// `http://host:port` or `socks5://host:port`, or with credentials `http://user:password@host:port`.
        case url(String)
        /// HTTPS_PROXY, ALL_PROXY and NO_PROXY, as connecting finds them.
        case environment
    }

    /// Whose certificates count for TLS. It has nothing to do with the enclave's verification.
    public enum Roots: Sendable, Hashable {
        /// Mozilla's list, which is built into the library.
        case bundled
        /// Those that the system trusts, as connecting finds them.
        case system
        /// The application's own.
        case pem(String)
    }

    /// Bounds of the memory that a client may take: bytes, but for `requests`. What is left nil has the library's default,
    /// which confer.h names.
    public struct Limits: Sendable, Hashable {
        /// Unread on the only stream, above which the socket is not read.
        public var streamRest: UInt64?
        /// Unread on a stream, above which it fails with `.slowConsumer`.
        public var streamUnread: UInt64?
        /// Unread on all streams.
        public var clientUnread: UInt64?
        /// Of messages of which not all has come.
        public var unfinished: UInt64?
        /// Of requests that wait to be sent, above which a further one fails with `.tooMany`.
        public var unsent: UInt64?
        /// Open at once.
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
        typealias SetTime = (OpaquePointer?, UInt64, UnsafeMutablePointer<OpaquePointer?>?) -> confer_status
        func set(_ value: Duration?, _ setter: SetTime) throws {
            guard let value else { return }
            try call { setter(config.pointer, value.milliseconds, $0) }
        }
        try set(tokenProvider == nil ? token : nil, confer_config_set_token)
        try set(endpoint, confer_config_set_endpoint)
        try set(jwksCacheFile, confer_config_set_jwks_cache_file)
        try set(connectTimeout, confer_config_set_connect_timeout_ms)
        try set(idleTimeout, confer_config_set_idle_timeout_ms)
        try set(keepalive, confer_config_set_keepalive_ms)
        try set(deadPeer, confer_config_set_dead_peer_ms)
        try set(probeTimeout, confer_config_set_probe_timeout_ms)
        if let reconnect {
            try call {
                confer_config_set_reconnect(
                    config.pointer, reconnect.attempts, reconnect.firstDelay.milliseconds, reconnect.maxDelay.milliseconds, $0)
            }
        }
        if maxAge != nil || renewsWithEvidence {
            try call {
                confer_config_set_max_age(config.pointer, maxAge?.milliseconds ?? 0, renewsWithEvidence, $0)
            }
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
                    config.pointer, { tellOfConnection($0, $1) }, Box.retained(onConnectionChange),
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
    /// Whole milliseconds. Times that are negative or beyond any bound become one that the library refuses by name.
    var milliseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0, seconds < 1 << 40 else { return .max }
        // Rounded up: what is not zero does not become what means "any".
        return UInt64(seconds) * 1_000 + UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
