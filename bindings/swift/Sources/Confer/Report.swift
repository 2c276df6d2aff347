// Policies, reports, and the verification of kept evidence.

import CConfer
import Foundation

/// The trusted enclaves, as one JSON document. Immutable. Clients that share a policy connect
/// faster.
public final class Policy: Sendable {
    let handle: Handle

    /// Returns the built-in policy for Confer's service.
    public static func production() throws -> Policy {
        Policy(try Handle(free: confer_policy_free) { confer_policy_production($0, $1) })
    }

    /// Returns `production()`, but refuses machines whose firmware needs an update or another
    /// configuration.
    public static func strict() throws -> Policy {
        Policy(try Handle(free: confer_policy_free) { confer_policy_strict($0, $1) })
    }

    /// Parses a policy document.
    public convenience init(json: String) throws {
        self.init(
            try Handle(free: confer_policy_free) { policy, error in
                withText(json) { confer_policy_parse($0, $1, policy, error) }
            })
    }

    /// Reads a policy document from a file.
    public convenience init(contentsOfFile path: String) throws {
        self.init(
            try Handle(free: confer_policy_free) { policy, error in
                withText(path) { confer_policy_load($0, $1, policy, error) }
            })
    }

    /// The name in the document.
    public var name: String { text { confer_policy_name(handle.pointer, $0) } ?? "" }
    /// The SHA-256 of the document's exact bytes, as in reports.
    public var sha256: String { text { confer_policy_sha256(handle.pointer, $0) } ?? "" }
    /// The exact bytes of the document.
    public var json: String { text { confer_policy_json(handle.pointer, $0) } ?? "" }

    private init(_ handle: Handle) { self.handle = handle }
}

/// Why an enclave was trusted or refused, check by check.
public struct Report: Sendable {
    /// The values of the report.
    public let content: Content
    private let handle: Handle

    /// Whether the enclave is trusted.
    public var isVerified: Bool { confer_report_verified(handle.pointer) }
    /// The complete report.
    public var json: String { text { confer_report_json(handle.pointer, $0) } ?? "" }
    /// Can be kept for ``verify(evidence:policy:at:)``.
    public var evidence: String { text { confer_report_evidence(handle.pointer, $0) } ?? "" }

    /// The duration of a stage, or of all. Nil for a stage that did not run, and in a replay.
    public func timing(of stage: Stage) -> Duration? {
        let microseconds = confer_report_timing_us(handle.pointer, stage.rawValue)
        return microseconds < 0 ? nil : .microseconds(microseconds)
    }

    /// The values of a report. Nil if unknown.
    public struct Content: Sendable, Hashable, Decodable {
        /// The platform that the evidence claims, such as "TDX".
        public let platform: String?
        /// The applied policy.
        public let policy: Policy
        /// The time of the verification, in Unix seconds.
        public let verifiedAt: Int64
        /// The expiry of Intel's token, in Unix seconds.
        public let expiresAt: Int64?
        /// The enclave's URL without its query. Nil in an offline verification.
        public let endpoint: String?
        /// The Noise static key that the enclave proved to hold, 64 hex digits.
        public let serverKey: String
        /// The SHA-256 of the release's manifest, 64 hex digits.
        public let manifestSha256: String?
        /// The release that the enclave runs.
        public let release: Release
        /// The measurements of the machine.
        public let tdx: TDX
        /// The checks, in their order.
        public let checks: [Check]

        /// The applied policy document.
        public struct Policy: Sendable, Hashable, Decodable {
            /// Its name.
            public let name: String
            /// Its SHA-256, 64 hex digits.
            public let sha256: String
        }
        /// A signed release of the enclave.
        public struct Release: Sendable, Hashable, Decodable {
            /// The version of the enclave's image.
            public let imageVersion: String?
            /// The version of the enclave's proxy.
            public let proxyVersion: String?
            /// The email address in the signing certificate.
            public let signer: String?
            /// The identity provider that confirmed the signer.
            public let issuer: String?
            /// The entry in the transparency log.
            public let log: Log
        }
        /// An entry in the transparency log.
        public struct Log: Sendable, Hashable, Decodable {
            /// The URL of the log.
            public let url: String?
            /// The index of the entry.
            public let index: Int64?
            /// When the log added the entry, in Unix seconds.
            public let integratedTime: Int64?
        }
        /// Measurements of an Intel TDX machine.
        public struct TDX: Sendable, Hashable, Decodable {
            /// The measurement of the virtual firmware, and the runtime registers: 96 hex digits
            /// each.
            public let mrtd, rtmr0, rtmr1, rtmr2, rtmr3: String?
            /// The security version of the TDX module.
            public let seamSvn: Int64?
            /// The patch level according to Intel, such as "UpToDate", and its date in RFC 3339
            /// format.
            public let tcbStatus, tcbDate: String?
            /// Intel's security advisories that apply to the machine.
            public let advisories: [String]?
        }
    }

    /// One verification check.
    public struct Check: Sendable, Hashable, Identifiable, Decodable {
        /// The result of a check.
        public enum Outcome: String, Sendable, Hashable, Decodable, CaseIterable {
            /// The evidence satisfies the check.
            case pass
            /// The check passed with a remark.
            case warn
            /// The check failed: the enclave is refused.
            case fail
            /// The check could not run: the enclave is refused.
            case skip
        }
        /// The name of the check, such as "tdx.key_binding".
        public let id: String
        /// Its result.
        public let outcome: Outcome
        /// The result in words.
        public let detail: String?
        /// The value that the policy expects.
        public let expected: String?
        /// The value in the evidence.
        public let observed: String?
    }

    /// The checks, in their order.
    public var checks: [Check] { content.checks }

    /// Verifies exported evidence again, offline, by default at the time of its capture. If it is
    /// refused, the error's report says why.
    public static func verify(evidence: String, policy: Policy, at: Date? = nil) throws -> Report {
        // The library refuses the value for an invalid date.
        let seconds = at.map { Int64(exactly: $0.timeIntervalSince1970.rounded(.down)) ?? .min } ?? -1
        let report = try Handle(free: confer_report_free) { report, error in
            withText(evidence) { confer_evidence_verify($0, $1, policy.handle.pointer, seconds, report, error) }
        }
        return try Report(report)
    }

    /// Keeps a lent report.
    init(lent report: OpaquePointer) throws {
        try self.init(Handle(confer_report_clone(report), free: confer_report_free))
    }

    init(_ report: Handle) throws {
        handle = report
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let json = text { confer_report_json(report.pointer, $0) } ?? ""
        content = try decoder.decode(Content.self, from: Data(json.utf8))
    }
}

extension Report: CustomStringConvertible {
    /// A line with the verdict, the platform and the release, and a line for each check. Contains
    /// no secret.
    public var description: String {
        let verdict = isVerified ? "verified" : "refused"
        let release = content.release.imageVersion ?? "unknown"
        let lines = checks.map { "\($0.outcome) \($0.id): \($0.detail ?? "")" }
        return (["\(verdict): platform \(content.platform ?? "unknown"), release \(release)"] + lines).joined(separator: "\n")
    }
}
