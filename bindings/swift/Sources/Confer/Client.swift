// The connection. It turns task cancellation into the library's, and never blocks a thread of Swift's concurrency: it
// looks without waiting, and waits on descriptors.

import CConfer
import Dispatch

/// A connection to a verified enclave; with `Configuration.reconnect`, several one after the other.
///
///     let client = try await Client.connect(Configuration(token: token))
///     for try await event in client.chat(ChatRequest("Hello!")) {
///         if case .token(let text) = event { print(text, terminator: "") }
///     }
///     try await client.close()
public final class Client: Sendable {
    let handle: Handle

    private init(_ handle: Handle) { self.handle = handle }

    /// Connects, verifies the enclave, and completes the handshake. If the enclave is refused, the error's report says
    /// why. Cancelling the task gives up.
    public static func connect(_ configuration: Configuration) async throws -> Client {
        let config = try configuration.native()
        let connecting = try Handle(free: confer_connecting_free) { confer_connect_start(config.pointer, $0, $1) }
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

    /// Why the enclave is trusted: that of the connection in use, or of the last one.
    public func report() throws -> Report {
        let report = try Handle(free: confer_report_free) { confer_attestation_report(handle.pointer, $0, $1) }
        return try Report(report.pointer)
    }

    /// Throws the error with which the client ended, if it did. With `Configuration.reconnect` it lives between two
    /// connections too; `isConnected` tells these apart.
    public func check() throws {
        try call { confer_client_check(handle.pointer, $0) }
    }

    /// Whether there is a connection at this moment.
    public var isConnected: Bool { confer_client_connected(handle.pointer) }

    /// Says that the network changed, or that the machine has slept. A connection is asked at once whether it still lives,
    /// within `Configuration.probeTimeout`; one that is being made again is made without a further pause. Never waits.
    public func networkChanged() throws {
        try call { confer_client_network_changed(handle.pointer, $0) }
    }

    /// What the client has done so far.
    public var counters: Counters { Counters { confer_client_counter(handle.pointer, $0) } }

    /// Sends a request at once and streams its answer. Events wait in the library until they are read, which bounds them.
    /// Cancelling the task that reads ends the stream, and so does letting go of it.
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

    /// Ends the connection and every stream on it, which fail with `.closed`. Closing again is allowed.
    public func close() async throws {
        let handle = handle
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            DispatchQueue.global().async {
                continuation.resume(with: Result { try call { confer_close(handle.pointer, -1, $0) } }.map { _ in })
            }
        }
    }
}

/// A streamed answer. A stream of Swift's can be handed to several tasks, and an event is lent until the next one is
/// taken: so it is taken and copied in one turn.
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

    /// Looks and does not wait.
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

/// What a client has done so far.
public struct Counters: Sendable, Hashable {
    /// Bytes that went to sockets and came from them, TLS and WebSocket included.
    public let bytesSent, bytesReceived: UInt64
    /// Whole messages: requests, chunks of documents, pings.
    public let messagesSent, messagesReceived: UInt64
    /// Keepalive pings.
    public let pingsSent, pingsAnswered: UInt64
    /// How long the last of them took; nil before the first.
    public let roundTrip: Duration?
    /// Connections that were made and verified, the first one included, and attempts to connect again that failed.
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
