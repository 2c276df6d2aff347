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

    public convenience init(json: String) throws {
        self.init(
            try Handle(free: confer_policy_free) { policy, error in
                withText(json) { confer_policy_parse($0, $1, policy, error) }
            })
    }

    public convenience init(contentsOfFile path: String) throws {
        self.init(
            try Handle(free: confer_policy_free) { policy, error in
                withText(path) { confer_policy_load($0, $1, policy, error) }
            })
    }

    public var name: String { text { confer_policy_name(handle.pointer, $0) } ?? "" }
    /// The SHA-256 of the document's exact bytes, as in reports.
    public var sha256: String { text { confer_policy_sha256(handle.pointer, $0) } ?? "" }
    /// The exact bytes of the document.
    public var json: String { text { confer_policy_json(handle.pointer, $0) } ?? "" }

    private init(_ handle: Handle) { self.handle = handle }
}

/// Why an enclave was trusted or refused, check by check. Its properties are those of the report's
/// JSON.
public struct Report: Sendable {
    public let content: Content
    private let handle: Handle

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

    public struct Content: Sendable, Decodable {
        public let platform: String?
        public let policy: Policy
        public let verifiedAt: Int64
        public let expiresAt: Int64?
        public let endpoint: String?
        public let serverKey: String
        public let manifestSha256: String?
        public let release: Release
        public let tdx: TDX
        public let checks: [Check]

        public struct Policy: Sendable, Decodable {
            public let name: String
            public let sha256: String
        }
        public struct Release: Sendable, Decodable {
            public let imageVersion: String?
            public let proxyVersion: String?
            public let signer: String?
            public let issuer: String?
            public let log: Log
        }
        public struct Log: Sendable, Decodable {
            public let url: String?
            public let index: Int64?
            public let integratedTime: Int64?
        }
        public struct TDX: Sendable, Decodable {
            public let mrtd, rtmr0, rtmr1, rtmr2, rtmr3: String?
            public let seamSvn: Int64?
            public let tcbStatus, tcbDate: String?
            public let advisories: [String]?
        }
    }

    /// One verification check.
    public struct Check: Sendable, Decodable {
        public enum Outcome: String, Sendable, Decodable, CaseIterable { case pass, warn, fail, skip }
        public let id: String
        public let outcome: Outcome
        public let detail: String?
        public let expected: String?
        public let observed: String?
    }

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
