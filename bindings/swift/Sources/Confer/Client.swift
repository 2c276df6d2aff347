// The connection. Turns task cancellation into the library's, and never blocks a thread of Swift's
// concurrency: it waits on descriptors.

import CConfer
import Dispatch

/// A connection to a verified enclave. With `Configuration.reconnect`, it can be several in
/// succession.
///
///     let client = try await Client.connect(Configuration(token: token))
///     for try await event in client.chat(ChatRequest("Hello!")) {
///         if case .token(let text) = event { print(text, terminator: "") }
///     }
///     try await client.close()
public final class Client: Sendable {
    let handle: Handle

    private init(_ handle: Handle) { self.handle = handle }

    /// Connects, verifies the enclave, and completes the handshake. If the enclave is refused, the
    /// error's report says why. Cancelling the task cancels connecting.
    public static func connect(_ configuration: Configuration) async throws -> Client {
        let config = try configuration.native()
        let connecting = try Handle(free: confer_connecting_free) { confer_connecting_start(config.pointer, $0, $1) }
        var descriptor: Int32 = -1
        try call { confer_connecting_fd(connecting.pointer, &descriptor, $0) }
        return try await withTaskCancellationHandler {
            while true {
                var client: OpaquePointer?
                let status = try cancellableCall { confer_connecting_wait(connecting.pointer, 0, &client, $0) }
                if status == CONFER_OK { return Client(Handle(client!, free: confer_client_free)) }
                await readable(descriptor)
            }
        } onCancel: {
            confer_connecting_cancel(connecting.pointer)
        }
    }

    /// Returns the report of the current connection, or of the last one.
    public func report() throws -> Report {
        let report = try Handle(free: confer_report_free) { confer_attestation_report(handle.pointer, $0, $1) }
        return try Report(report.pointer)
    }

    /// Throws the error with which the client ended, if it has ended. With
    /// `Configuration.reconnect`, a client also lives between connections; `isConnected` shows
    /// whether one exists.
    public func check() throws {
        try call { confer_client_check(handle.pointer, $0) }
    }

    /// Whether a connection exists now.
    public var isConnected: Bool { confer_client_connected(handle.pointer) }

    /// Call this when the network has changed or the machine has slept. Checks at once, within
    /// `Configuration.probeTimeout`, whether the connection is alive. A pending reconnect skips its
    /// pause. Never waits.
    public func networkChanged() throws {
        try call { confer_client_network_changed(handle.pointer, $0) }
    }

    /// The client's counters.
    public var counters: Counters { Counters { confer_client_counter(handle.pointer, $0) } }

    /// Sends a request at once and streams its answer. Unread events wait in the library, within
    /// its limits. Cancelling the reading task, or releasing the stream, ends the stream.
    public func chat(_ request: ChatRequest) -> AsyncThrowingStream<Event, any Error> {
        stream {
            let request = try request.native()
            return try Handle(free: confer_stream_free) { confer_chat_pull(handle.pointer, request.pointer, $0, $1) }
        }
    }

    func stream(_ start: () throws -> Handle) -> AsyncThrowingStream<Event, any Error> {
        let answer = Result { try Answer(start(), read: Event.init) }
        return AsyncThrowingStream { try await answer.get().next() }
    }

    /// Ends the connection and all its streams, which fail with `.closed`. May be called again.
    public func close() async throws {
        let handle = handle
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            DispatchQueue.global().async {
                continuation.resume(with: Result { try call { confer_close(handle.pointer, -1, $0) } }.map { _ in })
            }
        }
    }
}

/// A streamed answer. Several tasks can share a Swift stream, and an event is lent only until the
/// next one. So it is read and copied in one step.
final class Answer<Element: Sendable>: Sendable {
    private let stream: Handle
    private let read: @Sendable (OpaquePointer) -> Element
    private let descriptor: Int32
    private let turns = DispatchQueue(label: "confer.answer")

    private enum Taken {
        case event(Element)
        case end
        case nothing
    }

    /// `read` copies an event.
    init(_ stream: Handle, read: @escaping @Sendable (OpaquePointer) -> Element) throws {
        var descriptor: Int32 = -1
        try call { confer_stream_fd(stream.pointer, &descriptor, $0) }
        self.stream = stream
        self.descriptor = descriptor
        self.read = read
    }

    func next() async throws -> Element? {
        try await withTaskCancellationHandler {
            while true {
                switch try take() {
                case .event(let event): return event
                case .end: return nil
                case .nothing: await readable(descriptor)
                }
            }
        } onCancel: {
            confer_stream_cancel(stream.pointer)
        }
    }

    /// Reads without waiting.
    private func take() throws -> Taken {
        try turns.sync {
            var event: OpaquePointer?
            switch try cancellableCall({ confer_stream_next(stream.pointer, 0, &event, $0) }) {
            case CONFER_OK: return .event(read(event!))
            case CONFER_END: return .end
            default: return .nothing
            }
        }
    }
}

/// The counters of a client.
public struct Counters: Sendable, Hashable {
    /// Bytes sent and received by sockets, including TLS and WebSocket.
    public let bytesSent, bytesReceived: UInt64
    /// Complete messages: requests, chunks of documents, pings.
    public let messagesSent, messagesReceived: UInt64
    /// Keepalive pings.
    public let pingsSent, pingsAnswered: UInt64
    /// The round trip of the last ping, nil before the first.
    public let roundTrip: Duration?
    /// Verified connections, including the first one, and failed attempts to reconnect.
    public let connections, failedAttempts: UInt64

    init(_ read: (Int32) -> UInt64) {
        bytesSent = read(CONFER_COUNTER_BYTES_SENT)
        bytesReceived = read(CONFER_COUNTER_BYTES_RECEIVED)
        messagesSent = read(CONFER_COUNTER_MESSAGES_SENT)
        messagesReceived = read(CONFER_COUNTER_MESSAGES_RECEIVED)
        pingsSent = read(CONFER_COUNTER_PINGS_SENT)
        pingsAnswered = read(CONFER_COUNTER_PINGS_ANSWERED)
        let microseconds = read(CONFER_COUNTER_ROUND_TRIP_US)
        roundTrip = microseconds == 0 ? nil : .microseconds(microseconds)
        connections = read(CONFER_COUNTER_CONNECTIONS)
        failedAttempts = read(CONFER_COUNTER_FAILED_ATTEMPTS)
    }
}
