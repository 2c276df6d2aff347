// Converts the library's errors into Swift's.

import CConfer
import Foundation

/// Why a call or a stream failed.
public struct ConferError: Error, Sendable {
    /// How it failed.
    public let status: Status
    /// For developers and logs. Never contains a token, prompt, answer or key.
    public let message: String
    /// The deciding verification check for `.rejected`, such as "tdx.key_binding".
    public let checkID: String?
    /// The HTTP status of a refused upgrade, or the enclave's status for a refused request.
    public let httpStatus: Int?
    /// The same call may succeed later, unchanged. This does not mean that repeating is harmless;
    /// see `progress`.
    public let isRetryable: Bool
    /// The delay that the peer requested.
    public let retryDelay: Duration?
    /// How far the request had come.
    public let progress: Progress
    /// The enclave's reason for refusing a request or closing the connection. It may repeat parts
    /// of the request: show it to the user, but do not log it.
    public let peerText: String?
    /// The refused enclave's report, for `.rejected`.
    public let report: Report?

    /// How far a request had come.
    public enum Progress: Int32, Sendable, CaseIterable {
        /// Nothing of it was sent.
        case notSent = 0
        /// The enclave may have acted on it.
        case maybeSent = 1
        /// The enclave had begun to answer.
        case partlyAnswered = 2
    }

    /// An error of this package.
    init(_ status: Status, _ message: String, progress: Progress = .notSent) {
        (self.status, self.message, self.progress, isRetryable) = (status, message, progress, false)
        (checkID, httpStatus, retryDelay, peerText, report) = (nil, nil, nil, nil, nil)
    }

    /// Reads an error and frees it.
    init(_ status: confer_status, taking error: OpaquePointer?) {
        defer { confer_error_free(error) }
        self.init(status, lent: error)
    }

    /// Copies a lent error.
    init(_ status: confer_status, lent error: OpaquePointer?) {
        self.status = Status(rawValue: status)
        message = text { confer_error_message(error, $0) } ?? String(cString: confer_status_description(status))
        checkID = text { confer_error_check_id(error, $0) }
        let http = confer_error_http_status(error)
        httpStatus = http == 0 ? nil : Int(http)
        isRetryable = confer_error_retryable(error)
        let delay = confer_error_retry_delay_ms(error)
        retryDelay = delay < 0 ? nil : .milliseconds(delay)
        // An unknown progress may mean that the request was sent.
        progress = Progress(rawValue: confer_error_progress(error)) ?? .maybeSent
        peerText = text { confer_error_peer_text(error, $0) }
        report = confer_error_report(error).flatMap { try? Report(lent: $0) }
    }
}

extension ConferError: CustomStringConvertible, CustomReflectable, LocalizedError {
    /// The status and the message. Contains no secret.
    public var description: String { "\(status): \(message)" }
    /// The same text, as `localizedDescription`.
    public var errorDescription: String? { description }
    /// Omits `peerText`, which is only for the user.
    public var customMirror: Mirror {
        Mirror(self, children: ["status": status, "message": message, "checkID": checkID as Any])
    }
}
