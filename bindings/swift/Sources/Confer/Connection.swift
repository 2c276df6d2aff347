// What becomes of a connection that is made again, and the tokens that it is made with.

import CConfer

/// What became of the connection.
public enum ConnectionChange: Sendable {
    /// It broke, and is made again.
    case lost(ConferError)
    /// An attempt begins after a pause. If the connection did not break, it is to be replaced, and serves meanwhile.
    case attempt(number: UInt32, delay: Duration)
    case failed(ConferError)
    /// There is a new connection, verified. `releaseChanged`: its release is another one than that of the one before.
    case connected(Report, releaseChanged: Bool)
    /// There will be no other: the client has ended.
    case ended(ConferError)
    /// A type that this version does not know.
    case other(Int32)

    /// Copies a change, which is lent to a callback.
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

func tellOfConnection(_ data: UnsafeMutableRawPointer?, _ event: OpaquePointer?) {
    if let change = ConnectionChange(event) { Box<ConnectionFunction>.value(data)(change) }
}

/// The callback's thread is not held up: the answer comes from a task.
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
            // It names what is wrong with the token, and never repeats that.
            let reason = text { confer_error_message(failure, $0) } ?? ""
            withText(reason) { _ = confer_token_request_fail(request.pointer, $0, $1, nil) }
        } catch {
            withText("\(type(of: error))") { _ = confer_token_request_fail(request.pointer, $0, $1, nil) }
        }
    }
}
