// The connection.

import CConfer

/// A client for its whole life: one connection to a verified enclave, or several in succession, see
/// `Configuration.LimitKey.attempts`. It lives until it is closed, or until it and its answers are
/// released. A token provider, a release decision or a log that captures its client keeps it alive
/// until ``close()``: capture it weakly, or close it.
///
///     let client = try await Client.connect(Configuration(token: token))
///     for try await event in client.chat(ChatRequest("Hello!")) {
///         if case .token(let text) = event { FileHandle.standardOutput.write(Data(text.utf8)) }
///     }
///     try await client.close()
public final class Client: Sendable {
    let handle: Handle

    /// The states of a client. Only `ended` is final.
    public enum State: Int32, Sendable, CaseIterable {
        /// Making the first connection.
        case connecting = 0
        /// A verified connection serves.
        case connected = 1
        /// The connection broke, and another one is made.
        case reconnecting = 2
        /// See ``check()``.
        case ended = 3
    }

    /// Begins to connect, and returns at once. Requests can be sent at once: they stay in this
    /// process until the enclave is verified.
    public init(_ configuration: Configuration) throws {
        let config = try configuration.native()
        handle = try Handle(free: confer_client_free) { confer_connect_start(config.pointer, $0, $1) }
        try Answering(configuration).begin(handle)
    }

    /// Connects, verifies the enclave, and completes the handshake. If the enclave is refused, the
    /// error's report says why. Cancelling the task cancels connecting.
    public static func connect(_ configuration: Configuration) async throws -> Client {
        let client = try Client(configuration)
        try await client.waitUntilConnected()
        return client
    }

    /// Waits until the client is connected. Throws its error if it has ended or ends during the
    /// wait.
    public func waitUntilConnected() async throws {
        let events = try watch()
        while try call({ confer_client_wait(handle.pointer, 0, $0) }) == CONFER_TIMEOUT { _ = try await events.next() }
    }

    /// The state now.
    public var state: State {
        // A state of a later version: neither connected nor ended.
        State(rawValue: confer_client_state(handle.pointer)) ?? .reconnecting
    }

    /// A stream of the client's events. Each access opens a new one, which begins with the present
    /// state and any open question. It ends with the client: normally after ``close()``, otherwise
    /// with the client's error. If the client was closed before, it throws `.closed`. It does not
    /// keep the client alive.
    public var events: EventStream<ClientEvent> { EventStream(watch) }

    private func watch() throws -> Source<ClientEvent> {
        try Source({ confer_client_watch(handle.pointer, $0, $1, $2) }) { event, _ in try ClientEvent(event) }
    }

    /// Gives a fresh token unasked. It answers an open question; otherwise the next attempt to
    /// connect uses it.
    public func setToken(_ token: String) throws {
        try set(handle, to: token, confer_client_set_token)
    }

    /// Returns the report of the current connection, or of the last one.
    public func report() throws -> Report {
        try Report(Handle(free: confer_report_free) { confer_attestation_report(handle.pointer, $0, $1) })
    }

    /// Throws the error with which the client ended, if it has ended.
    public func check() throws {
        try call { confer_client_check(handle.pointer, $0) }
    }

    /// Whether a connection exists now.
    public var isConnected: Bool { state == .connected }

    /// Call this when the network has changed or the machine has slept. Checks at once, within
    /// `DurationKey.probe`, whether the connection is alive. A pending reconnect skips its pause.
    /// Never waits.
    public func networkChanged() throws {
        try call { confer_client_network_changed(handle.pointer, $0) }
    }

    /// Returns a number that the client counts. It starts at 0 and continues over reconnects.
    public func counter(_ counter: Counter) -> UInt64 { confer_client_counter(handle.pointer, counter.rawValue) }

    /// What a client counts.
    public enum Counter: Int32, Sendable, CaseIterable {
        /// Sent bytes of sockets, including TLS and WebSocket.
        case bytesSent = 0
        /// Received bytes of sockets, including TLS and WebSocket.
        case bytesReceived = 1
        /// Complete messages: requests, chunks of documents, pings.
        case messagesSent = 2
        /// Complete messages of the enclave.
        case messagesReceived = 3
        /// Keepalive pings.
        case pingsSent = 4
        /// Keepalive pings that the enclave answered.
        case pingsAnswered = 5
        /// The last ping's round trip in microseconds, 0 before the first.
        case roundTripUS = 6
        /// Verified connections, including the first one.
        case connections = 7
        /// Failed attempts to reconnect.
        case failedAttempts = 8
    }

    /// Ends the client in any state and all its streams, which fail with `.closed`. May be called
    /// again.
    ///
    /// Waits without a limit, until a running call of `Configuration.log` returns and the system
    /// ends the client's name look-ups and file accesses. Cancelling the task does not end the
    /// wait.
    public func close() async throws {
        // Begins to close without a thread: writes that wait may hold every thread that the wait
        // below could use.
        if try call({ confer_close(handle.pointer, 0, $0) }) == CONFER_OK { return }
        try await waiting { [handle] in try call { confer_close(handle.pointer, -1, $0) } }
    }
}
