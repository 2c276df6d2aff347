// Requests other than chats.

import CConfer
import Foundation

/// The ending of the answer to ``Client/send(_:_:body:ending:)``, because nothing on the wire shows
/// it. A wrong one loses the rest of an answer, or waits for more until the idle limit.
public enum Ending: Int32, Sendable, CaseIterable {
    /// One response: one `Event.body`.
    case oneResponse = 0
    /// Events up to `Event.completion`.
    case completion = 1
    /// Pieces of Content-Length bytes in all, each an `Event.body`.
    case contentLength = 2
}

/// A document for ``Client/extract(_:)``. Servers accept at most 50 MiB, newer ones 1 byte to 256
/// MiB.
public struct Document: Sendable {
    public enum Source: Sendable {
        case data(Data)
        /// The path of a regular file, which is read during the upload.
        case file(String)
    }

    /// Sent to the server.
    public var filename: String
    public var source: Source
    /// Options of the extraction, each a JSON value: "content_type" and "image_export_mode"
    /// (strings), "ocr", "table_structure" and "include_images" (true or false), or options of
    /// later servers. Default: the server's.
    public var options: [String: String]
    /// The largest answer in bytes. A larger one fails ``Client/extracted(_:)`` with `.limit`.
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
    /// Sends a ping and returns its round trip. The library also sends pings itself, to keep the
    /// connection.
    public func ping() async throws -> Duration {
        let request = try Handle(free: confer_request_free) { confer_request_new_ping($0, $1) }
        return try await all(request) { Duration.microseconds(max(confer_event_round_trip_us($0), 0)) }.last ?? .zero
    }

    /// Returns a row for each of 1 to 64 texts. `asQueries` says that the texts are queries, not
    /// passages.
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

    /// Lets the enclave fetch a page, and returns its HTML. The page's server, and anyone who sees
    /// the enclave's traffic, can see the fetch, but not its user.
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

    /// Uploads a document and streams its extraction: the upload's progress as `Event.progress`,
    /// then JSON in pieces, `Event.body`. An answer or refusal during the upload ends the upload.
    public func extract(_ document: Document) -> AsyncThrowingStream<Event, any Error> {
        stream { try send(document.native()) }
    }

    /// Like ``extract(_:)``, but returns the complete JSON.
    public func extracted(_ document: Document) async throws -> Data {
        let answer = try Answer(send(document.native()), read: Event.init)
        var whole = Data()
        while let event = try await answer.next() {
            guard case .body(let piece) = event else { continue }
            // Otherwise an enclave could fill the memory.
            guard max(piece.received, piece.total ?? 0) <= document.maxAnswer else {
                throw ConferError(.limit, "an answer of more than \(document.maxAnswer) bytes", progress: .partlyAnswered)
            }
            whole += piece.content
        }
        return whole
    }

    /// Sends a request of any route, such as one without a method in this version, and streams its
    /// events.
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

    /// Returns all results of a request. If the task is cancelled at any time, this throws
    /// `CancellationError`.
    private func all<Element: Sendable>(
        _ request: Handle, _ read: @escaping @Sendable (OpaquePointer) -> Element
    ) async throws -> [Element] {
        let answer = try Answer(send(request), read: read)
        var elements: [Element] = []
        while let element = try await answer.next() { elements.append(element) }
        return elements
    }
}
