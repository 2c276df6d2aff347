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
    /// How long nothing may come for a request. Default: three minutes.
    public var idleTimeout: Duration?
    /// The time between pings, and how long one may stay unanswered. Default: 20 seconds each.
    public var keepalive, deadPeer: Duration?

    public init(token: String, endpoint: String? = nil, policy: Policy? = nil) {
        self.token = token
        self.endpoint = endpoint
        self.policy = policy
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
        try set(token, confer_config_set_token)
        try set(endpoint, confer_config_set_endpoint)
        try set(jwksCacheFile, confer_config_set_jwks_cache_file)
        try set(connectTimeout, confer_config_set_connect_timeout_ms)
        try set(idleTimeout, confer_config_set_idle_timeout_ms)
        try set(keepalive, confer_config_set_keepalive_ms)
        try set(deadPeer, confer_config_set_dead_peer_ms)
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
    fileprivate var milliseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0, seconds < 1 << 40 else { return .max }
        return UInt64(seconds) * 1_000 + UInt64(attoseconds / 1_000_000_000_000_000)
    }
}
