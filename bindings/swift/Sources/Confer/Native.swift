// Access to C: owned handles, failing calls, texts in and out, and waiting for a descriptor.
// Independent of the handles' meaning.

import CConfer
import Dispatch

/// Owns a handle and frees it. Any thread may use libconfer's handles, so also this class.
final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let free: @convention(c) (OpaquePointer?) -> Void

    /// Creates a handle with `function(&handle, &error)`.
    init(
        free: @escaping @convention(c) (OpaquePointer?) -> Void,
        _ function: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> confer_status
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
}

/// Calls a function whose last parameter is the error. Returns `CONFER_TIMEOUT` and `CONFER_END`,
/// and throws any other failure.
@discardableResult
func call(_ function: (UnsafeMutablePointer<OpaquePointer?>) -> confer_status) throws -> confer_status {
    var failure: OpaquePointer?
    let status = function(&failure)
    guard status < CONFER_E_INVALID_ARGUMENT else { throw ConferError(status, taking: failure) }
    return status
}

/// Like `call`, but throws Swift's error if this task was cancelled and the library reports that.
func cancellableCall(_ function: (UnsafeMutablePointer<OpaquePointer?>) -> confer_status) throws -> confer_status {
    do {
        return try call(function)
    } catch let error as ConferError where error.status == .cancelled && Task.isCancelled {
        throw CancellationError()
    }
}

/// Lends a text to C during a call.
func withText<Result>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
    var text = text
    return text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { body($0.baseAddress, $0.count) }
    }
}

/// Copies the text of a getter.
func text(_ get: (UnsafeMutablePointer<Int>) -> UnsafePointer<CChar>?) -> String? {
    var count = 0
    guard let start = get(&count) else { return nil }
    return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
}

/// Suspends until a descriptor is readable, without occupying a thread. Does not notice
/// cancellation itself: cancelling the descriptor's object makes it readable. When this returns,
/// the descriptor may be closed.
func readable(_ descriptor: Int32) async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: .global())
        source.setEventHandler { source.cancel() }
        // Runs when Dispatch has released the descriptor.
        source.setCancelHandler { continuation.resume() }
        source.activate()
    }
}

/// The user data of a callback: a value that C owns until it releases it.
final class Box<Value>: Sendable where Value: Sendable {
    let value: Value

    private init(_ value: Value) { self.value = value }

    static func retained(_ value: Value) -> UnsafeMutableRawPointer { Unmanaged.passRetained(Box(value)).toOpaque() }
    static func value(_ data: UnsafeMutableRawPointer?) -> Value { Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue().value }
    static func release(_ data: UnsafeMutableRawPointer?) { Unmanaged<Box>.fromOpaque(data!).release() }
}
