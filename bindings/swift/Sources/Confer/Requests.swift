// The requests that are no chats.

import CConfer
import Foundation

/// How the answer to ``Client/send(_:_:body:ending:)`` ends, which nothing on the wire does: a wrong one loses the rest of
/// an answer, or waits for one until the idle limit.
public enum Ending: Int32, Sendable, CaseIterable {
    /// It is one response: one `Event.body`.
    case oneResponse = 0
    /// It comes in events and ends with `Event.completion`.
    case completion = 1
    /// It comes in pieces, each an `Event.body`, as long as Content-Length says.
    case contentLength = 2
}

/// What ``Client/extract(_:)`` uploads. A server takes 50 MiB, a newer one 1 byte to 256 MiB.
public struct Document: Sendable {
    public enum Source: Sendable {
        case data(Data)
        /// The path of a regular file, which is read while it is sent.
        case file(String)
    }

    /// Tells the server what it is.
    public var filename: String
    public var source: Source
    /// Options of the extraction, each a JSON value: "content_type" and "image_export_mode" (strings), "ocr",
    /// "table_structure" and "include_images" (true or false), or what later servers know. Default: the server's.
    public var options: [String: String]
    /// How many bytes the answer may have, before ``Client/extracted(_:)`` fails with `.limit`.
    public var maxAnswer: Int64 = 256 << 20

    public init(filename: String, _ source: Source, options: [String: String] = [:]) {
        self.filename = filename
        self.source = source
        self.options = options
    }

    fileprivate func native() throws -> Handle {
        let request = try Handle(free: confer_request_free) { request, error in
            withText(filename) { confer_request_new_extraction($0, $1, request, error) }
        }
        for (name, json) in options {
            try call { error in
                withText(name) { name, nameCount in
                    withText(json) { confer_request_set_option(request.pointer, name, nameCount, $0, $1, error) }
                }
            }
        }
        try call { error in
            switch source {
            case .data(let data):
                data.withUnsafeBytes { bytes in
                    let start = bytes.bindMemory(to: UInt8.self)
                    return confer_request_set_document_bytes(request.pointer, start.baseAddress, start.count, error)
                }
            case .file(let path):
                withText(path) { confer_request_set_document_file(request.pointer, $0, $1, error) }
            }
        }
        return request
    }
}

extension Client {
    /// Asks the enclave for a sign of life, and tells how long that took. (The library pings by itself to keep a
    /// connection; this one is for those who want to know.)
    public func ping() async throws -> Duration {
        let request = try Handle(free: confer_request_free) { confer_request_new_ping($0, $1) }
        return try await all(request) { Duration.microseconds(max(confer_event_round_trip_us($0), 0)) }.last ?? .zero
    }

    /// A row for each of 1 to 64 texts. `asQueries`: the texts are queries, and not what is searched.
    public func embed(_ texts: [String], asQueries: Bool) async throws -> [[Float]] {
        let request = try Handle(free: confer_request_free) { confer_request_new_embeddings(asQueries, $0, $1) }
        for text in texts {
            try call { error in withText(text) { confer_request_add_text(request.pointer, $0, $1, error) } }
        }
        return try await all(request) { event -> [[Float]] in
            var (rows, columns) = (0, 0)
            guard let lent = confer_event_embeddings(event, &rows, &columns) else { return [] }
            return (0..<rows).map { Array(UnsafeBufferPointer(start: lent + $0 * columns, count: columns)) }
        }.flatMap { $0 }
    }

    /// Has the enclave fetch a page, and gives its HTML. The page's server, and whoever sees the enclave's traffic, learn
    /// that it was fetched, though not by whom.
    public func fetchHTML(_ url: String, headers: [String: String] = [:]) async throws -> String {
        let request = try Handle(free: confer_request_free) { request, error in
            withText(url) { confer_request_new_fetch($0, $1, request, error) }
        }
        for (name, value) in headers {
            try call { error in
                withText(name) { name, nameCount in
                    withText(value) { confer_request_set_header(request.pointer, name, nameCount, $0, $1, error) }
                }
            }
        }
        let page = try await all(request, Event.init).reduce(into: Data()) {
            if case .body(let piece) = $1 { $0 += piece.content }
        }
        return String(decoding: page, as: UTF8.self)
    }

    /// Uploads a document, of which `Event.progress` tells how much was sent, and streams what was extracted from it: JSON,
    /// in pieces, `Event.body`. An answer, or a refusal, can come while the upload still runs: then no more of it is sent.
    public func extract(_ document: Document) -> AsyncThrowingStream<Event, any Error> {
        stream { try send(document.native()) }
    }

    /// As ``extract(_:)``, and gives the whole JSON.
    public func extracted(_ document: Document) async throws -> Data {
        let answer = try Answer(send(document.native()), read: Event.init)
        var whole = Data()
        while let event = try await answer.next() {
            guard case .body(let piece) = event else { continue }
            // Else an enclave could fill the memory.
            guard max(piece.received, piece.total ?? 0) <= document.maxAnswer else {
                throw ConferError(.limit, "an answer of more than \(document.maxAnswer) bytes", progress: .partlyAnswered)
            }
            whole += piece.content
        }
        return whole
    }

    /// Sends a request of any route, such as one that this version has no method for, and streams what comes of it.
    public func send(
        _ verb: String, _ path: String, body: String? = nil, ending: Ending
    ) -> AsyncThrowingStream<Event, any Error> {
        stream {
            let request = try Handle(free: confer_request_free) { request, error in
                withText(verb) { verb, verbCount in
                    withText(path) { confer_request_new(verb, verbCount, $0, $1, ending.rawValue, request, error) }
                }
            }
            if let body {
                try call { error in withText(body) { confer_request_set_body(request.pointer, $0, $1, error) } }
            }
            return try send(request)
        }
    }

    private func send(_ request: Handle) throws -> Handle {
        try Handle(free: confer_stream_free) { confer_request_pull(handle.pointer, request.pointer, $0, $1) }
    }

    /// All that comes of a request. Cancelling the task ends it with `CancellationError`, whenever that happens.
    private func all<Element: Sendable>(
        _ request: Handle, _ read: @escaping @Sendable (OpaquePointer) -> Element
    ) async throws -> [Element] {
        let answer = try Answer(send(request), read: read)
        var elements: [Element] = []
        while let element = try await answer.next() { elements.append(element) }
        return elements
    }
}
