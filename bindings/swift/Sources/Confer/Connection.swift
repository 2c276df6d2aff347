// Connection events, and tokens for new connections.

import CConfer

/// A connection event.
public enum ConnectionChange: Sendable {
    /// The connection broke, and will be replaced.
    case lost(ConferError)
    /// An attempt begins after a pause. If the old connection did not break, it still serves.
    case attempt(number: UInt32, delay: Duration)
    case failed(ConferError)
    /// A new, verified connection. `releaseChanged`: its release differs from the previous one's.
    case connected(Report, releaseChanged: Bool)
    /// The client has ended.
    case ended(ConferError)
    /// An unknown type.
    case other(Int32)

    /// Copies an event, which a callback lends.
    fileprivate init?(_ event: OpaquePointer?) {
        func error() -> ConferError {
            let error = confer_connection_event_error(event)
            return ConferError(confer_error_status(error), lent: error)
        }
        switch confer_connection_event_type(event) {
        case CONFER_CONNECTION_LOST: self = .lost(error())
        case CONFER_CONNECTION_ATTEMPT:
            let delay = Duration.milliseconds(confer_connection_event_delay_ms(event))
            self = .attempt(number: confer_connection_event_attempt(event), delay: delay)
        case CONFER_CONNECTION_FAILED: self = .failed(error())
        case CONFER_CONNECTION_CONNECTED:
            guard let report = confer_connection_event_report(event), let read = try? Report(report) else { return nil }
            self = .connected(read, releaseChanged: confer_connection_event_release_changed(event))
        case CONFER_CONNECTION_ENDED: self = .ended(error())
        case let other: self = .other(other)
        }
    }
}

typealias ConnectionFunction = @Sendable (ConnectionChange) -> Void
typealias TokenProvider = @Sendable () async throws -> String

func forwardConnectionEvent(_ data: UnsafeMutableRawPointer?, _ event: OpaquePointer?) {
    if let change = ConnectionChange(event) { Box<ConnectionFunction>.value(data)(change) }
}

/// Returns at once, so that the callback thread is not blocked. A task answers later.
func provideToken(_ data: UnsafeMutableRawPointer?, _ request: OpaquePointer?) {
    let provider = Box<TokenProvider>.value(data)
    let request = Handle(request!, free: confer_token_request_free)
    Task {
        do {
            let token = try await provider()
            var failure: OpaquePointer?
            let status = withText(token) { confer_token_request_answer(request.pointer, $0, $1, &failure) }
            defer { confer_error_free(failure) }
            guard status != CONFER_OK else { return }
            // The message describes the flaw without repeating the token.
            let reason = text { confer_error_message(failure, $0) } ?? ""
            withText(reason) { _ = confer_token_request_fail(request.pointer, $0, $1, nil) }
        } catch {
            withText("\(type(of: error))") { _ = confer_token_request_fail(request.pointer, $0, $1, nil) }
        }
    }
}
