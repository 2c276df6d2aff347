// Streams of events: the answer to a request, or what happens to a client.

import CConfer
import Foundation

/// A sequence of events. Unread ones wait in the library, within its limits, and a waiting reader
/// blocks no thread. Several tasks can read one stream: each event reaches one of them, and a
/// failure all of them. After the end, a stream has no more events.
///
/// Cancelling a reading task cancels the stream: its loop throws `CancellationError`, unless the
/// whole answer was delivered. Releasing the stream cancels it too. A failed start is thrown by
/// each read.
public struct EventStream<Element: Sendable>: AsyncSequence, Sendable {
    let source: Result<Source<Element>, any Error>

    init(_ start: () throws -> Source<Element>) { source = Result(catching: start) }

    /// Returns an iterator over the events that nobody has read yet.
    public func makeAsyncIterator() -> Iterator { Iterator(source: source) }

    /// Reads a stream, and keeps it open.
    public struct Iterator: AsyncIteratorProtocol, Sendable {
        fileprivate let source: Result<Source<Element>, any Error>

        /// Returns the next event, or nil after a complete answer.
        public mutating func next() async throws -> Element? { try await source.get().next() }
    }

    /// Ends the stream with `.cancelled`, unless it has ended. Drops unread events.
    public func cancel() { try? source.get().cancel() }
}

/// The answer to a request.
public typealias Answer = EventStream<Event>

extension EventStream where Element == Event {
    /// Reads to the end and returns the answer, at most 32 MiB: the text of a chat, without its
    /// reasoning, or the bytes of another answer. After a loop that has read a part, it is the
    /// rest.
    ///
    /// Tools with a function run, and the result is the text of the last round. A call of another
    /// tool then gets an error as its result. A chat without such tools ends with the model's call,
    /// so its text may be empty: read its events in a loop to see the call. With
    /// `ChatRequest.maxToolRounds` such a chat throws `.invalidArgument`, because only a loop can
    /// answer its calls.
    public func collect() async throws -> Data { try await source.get().collect() }

    /// Like ``collect()``, as text.
    public func text() async throws -> String { String(decoding: try await collect(), as: UTF8.self) }

    /// The part of the answer that ``collect()`` has read, also after it failed. In a chat whose
    /// tools have functions: of the last round.
    public var collected: Data { (try? source.get().collected) ?? Data() }

    /// Writes the next bytes of a document with `Document.Source.stream`, and waits until the
    /// library has taken them. Writing does not wait for a reader of the answer. One task at a time
    /// may write.
    ///
    /// Throws `.stale` if the upload has ended, for example because the answer came early: read it.
    public func write(_ bytes: Data) async throws { try await source.get().write(bytes) }

    /// Ends a document of unknown length.
    public func finish() throws { try source.get().finish() }
}

extension EventStream where Element == ClientEvent {
    /// The number of events that were dropped because nobody read them. The present state, an open
    /// question and the end are never dropped.
    public var dropped: UInt64 { (try? source.get().dropped) ?? 0 }
}

/// A stream of the library. Its `on_ready` wakes the tasks that wait for it.
final class Source<Element: Sendable>: @unchecked Sendable {
    private let stream: Handle
    private let signal: Signal
    /// Nil after the end, because it keeps the functions of tools, which may keep this stream.
    private var read: (@Sendable (OpaquePointer, Tasks) throws -> Element)?
    /// Nil unless it is a chat whose tools have functions.
    private var lastRound: LastRound?
    /// An event and a collected text are lent until the next call. Guards `read` and `lastRound`.
    private let turns = NSLock()

    /// `start` begins the stream with callbacks. `read` copies an event. Its tasks are cancelled
    /// when the stream ends.
    init(
        _ start: (UnsafePointer<confer_stream_callbacks>, HandleOutput, ErrorOutput) -> confer_status,
        lastRound: LastRound? = nil, read: @escaping @Sendable (OpaquePointer, Tasks) throws -> Element
    ) throws {
        let signal = Signal()
        var callbacks = confer_stream_callbacks()
        callbacks.size = MemoryLayout<confer_stream_callbacks>.size
        callbacks.user_data = Box.retained(signal)
        callbacks.on_ready = { data, _ in Box<Signal>.value(data).raise() }
        // After a close it is the only callback.
        callbacks.on_done = { data, _, _, _ in
            Box<Signal>.value(data).tasks.end()
            Box<Signal>.value(data).raise()
        }
        callbacks.destroy = { Box<Signal>.release($0) }
        stream = try Handle(free: confer_stream_free) { start(&callbacks, $0, $1) }
        self.signal = signal
        self.lastRound = lastRound
        self.read = read
    }

    /// Takes the next event, and uses it before another task can take one.
    func next(_ use: (Element) throws -> Void = { _ in }) async throws -> Element? {
        // Released after the lock: functions of tools may own what asks this stream.
        var ended: (@Sendable (OpaquePointer, Tasks) throws -> Element)?
        defer { withExtendedLifetime(ended) {} }
        return try await take { stream -> Element?? in
            var event: OpaquePointer?
            let status: confer_status
            do {
                status = try call { confer_stream_next(stream, 0, &event, $0) }
            } catch {
                swap(&ended, &read)
                throw error
            }
            switch status {
            case CONFER_OK:
                guard let read else { throw ConferError(.cancelled, "the stream has ended") }
                let taken = try read(event!, signal.tasks)
                do { try use(taken) } catch {
                    swap(&ended, &self.read)
                    throw error
                }
                return taken
            case CONFER_END:
                swap(&ended, &read)
                return .some(nil)
            default: return nil
            }
        }
    }

    func collect() async throws -> Data where Element == Event {
        if try turns.withLock({ try lastRound?.checkLength() }) != nil {
            while try await next({ try add($0) }) != nil {}
            return collected
        }
        return try await take { stream in
            var start: UnsafePointer<CChar>?
            var count = 0
            let status = try call { confer_stream_collect(stream, 0, &start, &count, $0) }
            return status == CONFER_OK ? Data(bytes: start!, count: count) : nil
        }
    }

    /// Called while `turns` is held.
    private func add(_ event: Event) throws {
        do {
            try lastRound?.add(event)
        } catch {
            cancel()
            throw error
        }
    }

    var collected: Data {
        turns.withLock {
            if let lastRound { return lastRound.content }
            var count = 0
            guard let start = confer_stream_text(stream.pointer, &count) else { return Data() }
            return Data(bytes: start, count: count)
        }
    }

    var dropped: UInt64 { confer_stream_dropped(stream.pointer) }

    func cancel() { confer_stream_cancel(stream.pointer) }

    func write(_ bytes: Data) async throws {
        try await cancelling {
            try await waiting { [stream] in
                try bytes.withUnsafeBytes { bytes in
                    let bytes = bytes.bindMemory(to: UInt8.self)
                    var written = 0
                    try call { confer_stream_write(stream.pointer, bytes.baseAddress, bytes.count, -1, &written, $0) }
                }
            }
        }
    }

    func finish() throws { try call { confer_stream_finish(stream.pointer, $0) } }

    /// Repeats a call that does not wait until it has a result.
    private func take<Taken: Sendable>(_ attempt: (OpaquePointer) throws -> Taken?) async throws -> Taken {
        try await cancelling {
            while true {
                let seen = signal.raised
                if let taken = try turns.withLock({ try attempt(stream.pointer) }) { return taken }
                await signal.wait(after: seen)
            }
        }
    }

    /// Cancels the stream with the task. The error is then Swift's.
    private func cancelling<Taken>(_ body: () async throws -> Taken) async throws -> Taken {
        try await withTaskCancellationHandler {
            do {
                return try await body()
            } catch let error as ConferError where Task.isCancelled && [.cancelled, .stale].contains(error.status) {
                throw CancellationError()
            }
        } onCancel: {
            cancel()
        }
    }
}

/// The text of a chat with rounds of tools: that of its last round.
struct LastRound {
    /// The limit and the message of confer_stream_collect().
    private static let limit = 32 << 20
    private static let tooLong = "the answer is larger than 33554432 bytes; read its events one by one"
    private(set) var content = Data()
    private var (isOver, isTooLong) = (false, false)

    /// Throws if the answer was too long.
    func checkLength() throws {
        if isTooLong { throw ConferError(.tooLarge, Self.tooLong, progress: .partlyAnswered) }
    }

    mutating func add(_ event: Event) throws {
        let piece: Data
        switch event {
        case .token(let text): piece = Data(text.utf8)
        case .body(let body): piece = body.content
        case .completion:
            if isOver { content = Data() }  // a round without a text
            isOver = true
            return
        default: return
        }
        if isOver { self = LastRound() }
        isTooLong = content.count + piece.count > Self.limit
        try checkLength()
        content += piece
    }
}

/// Wakes tasks. One thread at a time changes its state.
private final class Signal: @unchecked Sendable {
    let tasks = Tasks()
    private let lock = NSLock()
    private var count = 0
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// How often it was raised.
    var raised: Int { lock.withLock { count } }

    func raise() {
        let woken = lock.withLock {
            count += 1
            defer { waiting = [] }
            return waiting
        }
        woken.forEach { $0.resume() }
    }

    /// Suspends until it has been raised more often than this.
    func wait(after seen: Int) async {
        await withCheckedContinuation { continuation in
            let isRaised = lock.withLock {
                if count == seen { waiting.append(continuation) }
                return count != seen
            }
            if isRaised { continuation.resume() }
        }
    }
}

/// Tasks that work for a stream. One thread at a time changes its state.
final class Tasks: @unchecked Sendable {
    private let lock = NSLock()
    private var running: [Task<Void, Never>] = []
    private var isOver = false

    /// Starts a task, unless the stream is over.
    func start(_ work: @escaping @Sendable () async -> Void) {
        lock.withLock { if !isOver { running.append(Task(operation: work)) } }
    }

    func cancel() {
        let cancelled = lock.withLock {
            defer { running = [] }
            return running
        }
        cancelled.forEach { $0.cancel() }
    }

    /// Cancels the running tasks, and starts no further ones.
    func end() {
        lock.withLock { isOver = true }
        cancel()
    }
}
