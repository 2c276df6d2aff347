// The library's errors as Swift's.

import CConfer
import Foundation

/// How far a request had come.
public enum Progress: Int32, Sendable {
    /// Nothing of it left this process.
    case notSent = 0
    /// The enclave may have acted on it.
    case maybeSent = 1
    /// The enclave had begun to answer.
    case partlyAnswered = 2
}

/// Why a call or a stream failed.
public struct ConferError: Error, Sendable {
    public let status: Status
    /// For developers and logs: never a token, a prompt, an answer or a key.
    public let message: String
    /// For `.rejected`, the verification check that decided, such as "tdx.key_binding".
    public let checkID: String?
    /// That of a refused upgrade, or with which the enclave refused a request.
    public let httpStatus: Int?
    /// Whether the same call may succeed later, unchanged. It does not say that repeating is harmless: see `progress`.
    public let isRetryable: Bool
    /// How long the peer asked to wait.
    public let retryDelay: Duration?
    public let progress: Progress
    /// Why the enclave refused a request or closed the connection, in its own words. It may repeat parts of the request:
    /// show it to the user, and do not log it.
    public let peerText: String?
    /// For `.rejected`, that of the enclave that was refused.
    public let report: Report?

    /// One that the library was not asked for.
    init(_ status: Status, _ message: String, progress: Progress) {
        self.status = status
        self.message = message
        self.progress = progress
        checkID = nil
        httpStatus = nil
        isRetryable = false
        retryDelay = nil
        peerText = nil
        report = nil
    }

    /// Reads an error and frees it.
    init(_ status: confer_status, taking error: OpaquePointer?) {
        defer { confer_error_free(error) }
        self.init(status, lent: error)
    }

    /// Reads an error that is lent.
    init(_ status: confer_status, lent error: OpaquePointer?) {
        self.status = Status(rawValue: status)
        message = text { confer_error_message(error, $0) } ?? String(cString: confer_status_description(status))
        checkID = text { confer_error_check_id(error, $0) }
        let http = confer_error_http_status(error)
        httpStatus = http == 0 ? nil : Int(http)
        isRetryable = confer_error_retryable(error)
        let delay = confer_error_retry_delay_ms(error)
        retryDelay = delay < 0 ? nil : .milliseconds(delay)
        // What is not known may have been sent.
        progress = Progress(rawValue: confer_error_progress(error)) ?? .maybeSent
        peerText = text { confer_error_peer_text(error, $0) }
        report = confer_error_report(error).flatMap { try? Report($0) }
    }
}

extension ConferError: CustomStringConvertible, CustomReflectable, LocalizedError {
    public var description: String { "\(status): \(message)" }
    public var errorDescription: String? { description }
    /// Without `peerText`, which is for the user's eyes.
    public var customMirror: Mirror {
        Mirror(self, children: ["status": status, "message": message, "checkID": checkID as Any])
    }
}
