// Access to C: owned handles, failing calls, texts in and out. Independent of the handles' meaning.

import CConfer
import Dispatch

typealias ErrorOutput = UnsafeMutablePointer<OpaquePointer?>
typealias HandleOutput = UnsafeMutablePointer<OpaquePointer?>

/// Owns a handle and frees it. Any thread may use libconfer's handles, so also this class.
final class Handle: @unchecked Sendable, Hashable {
    let pointer: OpaquePointer
    private let free: @convention(c) (OpaquePointer?) -> Void

    /// Creates a handle with `function(&handle, &error)`.
    init(
        free: @escaping @convention(c) (OpaquePointer?) -> Void,
        _ function: (HandleOutput, ErrorOutput) -> confer_status
    ) throws {
        var made: OpaquePointer?
        try call { function(&made, $0) }
        // Outputs are written on success: see confer.h, "Arguments".
        pointer = made!
        self.free = free
    }

    /// Takes ownership of a handle.
    init(_ pointer: OpaquePointer, free: @escaping @convention(c) (OpaquePointer?) -> Void) {
        self.pointer = pointer
        self.free = free
    }

    deinit { free(pointer) }

    static func == (left: Handle, right: Handle) -> Bool { left === right }
    func hash(into hasher: inout Hasher) { hasher.combine(pointer) }
}

/// Calls a function whose last parameter is the error. Returns `CONFER_TIMEOUT` and `CONFER_END`,
/// and throws any other failure.
@discardableResult
func call(_ function: (ErrorOutput) -> confer_status) throws -> confer_status {
    var failure: OpaquePointer?
    let status = function(&failure)
    guard status < CONFER_E_INVALID_ARGUMENT else { throw ConferError(status, taking: failure) }
    return status
}

/// Runs a call that waits, on a thread outside Swift's pool.
@discardableResult
func waiting<Result: Sendable>(for function: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        // Dispatch gives each queue a thread, so that one that waits delays no other.
        DispatchQueue(label: "confer.wait").async { continuation.resume(with: .init(catching: function)) }
    }
}

/// Lends a text to C during a call.
func withText<Result>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
    var text = text
    return text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { body($0.baseAddress, $0.count) }
    }
}

/// Calls a setter with a text.
func set(
    _ handle: Handle, to value: String,
    _ setter: (OpaquePointer?, UnsafePointer<CChar>?, Int, ErrorOutput?) -> confer_status
) throws {
    try call { error in withText(value) { setter(handle.pointer, $0, $1, error) } }
}

/// Calls a setter with a name and a value.
func set(
    _ handle: Handle, _ name: String, to value: String,
    _ setter: (OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafePointer<CChar>?, Int, ErrorOutput?) -> confer_status
) throws {
    try call { error in
        withText(name) { name, nameCount in
            withText(value) { setter(handle.pointer, name, nameCount, $0, $1, error) }
        }
    }
}

/// Copies the text of a getter.
func text(_ get: (UnsafeMutablePointer<Int>) -> UnsafePointer<CChar>?) -> String? {
    var count = 0
    guard let start = get(&count) else { return nil }
    return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
}

/// The user data of a callback: a value that C owns until it releases it.
final class Box<Value>: Sendable where Value: Sendable {
    let value: Value

    private init(_ value: Value) { self.value = value }

    static func retained(_ value: Value) -> UnsafeMutableRawPointer { Unmanaged.passRetained(Box(value)).toOpaque() }
    static func value(_ data: UnsafeMutableRawPointer?) -> Value { Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue().value }
    static func release(_ data: UnsafeMutableRawPointer?) { Unmanaged<Box>.fromOpaque(data!).release() }
}
