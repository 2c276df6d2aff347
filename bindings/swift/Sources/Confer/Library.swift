// Settings that all clients of the process share.

import CConfer

/// The threads and the memory of the library, for the whole process.
public enum Library {
    /// The library's version, such as "0.1.0".
    public static var version: String { String(cString: confer_version_string()) }

    /// Sets the number of worker threads: 1 to 64, default 2. Throws `.busy` while another number
    /// of them runs.
    public static func setWorkers(_ count: Int) throws { try call { confer_runtime_set_workers(max(count, 0), $0) } }

    /// Waits until no thread of the library runs, at most for `timeout`, and returns whether
    /// that is so. Nil waits without a limit.
    public static func waitForThreads(timeout: Duration? = nil) async throws -> Bool {
        let limit = timeout.map { Int64(clamping: $0.milliseconds) } ?? -1
        return try await waiting { try call { confer_runtime_wait(limit, $0) } == CONFER_OK }
    }

    /// Sets how many unread bytes all streams may have together. Default: 1 GiB.
    public static func setUnreadLimit(_ bytes: UInt64) throws {
        try call { confer_runtime_set_unread_limit(bytes, $0) }
    }
}
