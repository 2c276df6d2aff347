// The few ways in which this package touches C: owned handles, calls that fail, texts in and out, and waiting for a
// descriptor. Nothing here knows what the handles are for.

import CConfer
import Dispatch

/// Owns a handle and frees it. libconfer's handles may be used by any thread, so this may be, too.
final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let free: @convention(c) (OpaquePointer?) -> Void

    /// Makes a handle: `function(&handle, &error)`.
    init(
        free: @escaping @convention(c) (OpaquePointer?) -> Void,
        _ function: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> confer_status
    ) throws {
        var made: OpaquePointer?
        try call { function(&made, $0) }
        // Outputs are written on success: confer.h, "Arguments".
        pointer = made!
        self.free = free
    }

    /// Takes a handle over.
    init(_ pointer: OpaquePointer, free: @escaping @convention(c) (OpaquePointer?) -> Void) {
        self.pointer = pointer
        self.free = free
    }

    deinit { free(pointer) }
}

/// Calls a function whose last parameter is the error. `CONFER_TIMEOUT` and `CONFER_END` are returned.
@discardableResult
func call(_ function: (UnsafeMutablePointer<OpaquePointer?>) -> confer_status) throws -> confer_status {
    var failure: OpaquePointer?
    let status = function(&failure)
    guard status < CONFER_E_INVALID_ARGUMENT else { throw ConferError(status, taking: failure) }
    return status
}

/// As `call`; but where this task was cancelled, and the library says so, the error is Swift's.
func cancellableCall(_ function: (UnsafeMutablePointer<OpaquePointer?>) -> confer_status) throws -> confer_status {
    do {
        return try call(function)
    } catch let error as ConferError where error.status == .cancelled && Task.isCancelled {
        throw CancellationError()
    }
}

/// Lends a text to C for the length of a call.
func withText<Result>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) -> Result) -> Result {
    var text = text
    return text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { body($0.baseAddress, $0.count) }
    }
}

/// Copies what a getter lends.
func text(_ get: (UnsafeMutablePointer<Int>) -> UnsafePointer<CChar>?) -> String? {
    var count = 0
    guard let start = get(&count) else { return nil }
    return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
}

/// Suspends until a descriptor is readable, and occupies no thread meanwhile. It does not notice cancellation by itself:
/// cancelling what the descriptor belongs to makes it readable. The descriptor is free again when this returns.
func readable(_ descriptor: Int32) async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: .global())
        source.setEventHandler { source.cancel() }
        // Runs when Dispatch has let go of the descriptor.
        source.setCancelHandler { continuation.resume() }
        source.activate()
    }
}

/// What a callback is given as its user data: a value that C owns until it releases it.
final class Box<Value>: Sendable where Value: Sendable {
    let value: Value

    private init(_ value: Value) { self.value = value }

    static func retained(_ value: Value) -> UnsafeMutableRawPointer { Unmanaged.passRetained(Box(value)).toOpaque() }
    static func value(_ data: UnsafeMutableRawPointer?) -> Value { Unmanaged<Box>.fromOpaque(data!).takeUnretainedValue().value }
    static func release(_ data: UnsafeMutableRawPointer?) { Unmanaged<Box>.fromOpaque(data!).release() }
}
