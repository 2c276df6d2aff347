// Requests of a client.

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
    /// The origin of the bytes.
    public enum Source: Sendable {
        /// Bytes in memory.
        case data(Data)
        /// The path of a regular file, which is read during the upload.
        case file(String)
        /// Written to the answer with `write` and `finish`. Newer servers need the length.
        case stream(length: Int64?)
    }

    /// The name, which is sent to the server.
    public var filename: String
    /// The origin of the bytes.
    public var source: Source
    /// Options of the extraction, each a JSON value: "content_type" and "image_export_mode"
    /// (strings), "ocr", "table_structure" and "include_images" (true or false), or options of
    /// later servers. Default: the server's.
    public var options: [String: String]

    /// Makes a document for an upload.
    public init(filename: String, _ source: Source, options: [String: String] = [:]) {
        self.filename = filename
        self.source = source
        self.options = options
    }

    fileprivate func native() throws -> Handle {
        let request = try Handle(free: confer_extraction_request_free) { request, error in
            withText(filename) { confer_extraction_request_new($0, $1, request, error) }
        }
        for (name, json) in options { try set(request, name, to: json, confer_extraction_request_set_option) }
        switch source {
        case .data(let data):
            try call { error in
                data.withUnsafeBytes { bytes in
                    let start = bytes.bindMemory(to: UInt8.self)
                    return confer_extraction_request_set_document_bytes(
                        request.pointer, start.baseAddress, start.count, error)
                }
            }
        case .file(let path): try set(request, to: path, confer_extraction_request_set_document_file)
        case .stream(let length):
            try call { confer_extraction_request_set_document_stream(request.pointer, length ?? -1, $0) }
        }
        return request
    }
}

extension Client {
    /// Sends a chat at once and streams its answer.
    public func chat(_ request: ChatRequest) -> Answer {
        let (functions, limit) = (request.functions, request.toolTimeout)
        return answer(request.native, confer_chat_stream, lastRound: functions.isEmpty ? nil : LastRound()) {
            Event($0, running: functions, for: limit, in: $1)
        }
    }

    /// Sends a ping and returns its round trip. The library also sends pings itself, to keep the
    /// connection.
    public func ping() async throws -> Duration {
        let answer = try Source({ confer_ping_stream(handle.pointer, $0, $1, $2) }) { event, _ in Event(event) }
        var roundTrip = Duration.zero
        while let event = try await answer.next() { if case .pong(let time) = event { roundTrip = time } }
        return roundTrip
    }

    /// Returns a row for each of 1 to 64 texts. `asQueries` says that the texts are queries, not
    /// passages.
    public func embed(_ texts: [String], asQueries: Bool) async throws -> [[Float]] {
        let request = try Handle(free: confer_embeddings_request_free) { confer_embeddings_request_new($0, $1) }
        try call { confer_embeddings_request_set_is_query(request.pointer, asQueries, $0) }
        for text in texts { try set(request, to: text, confer_embeddings_request_add_text) }
        let answer = try Source({ confer_embeddings_stream(handle.pointer, request.pointer, $0, $1, $2) }) { event, _ in
            Event(event)
        }
        var rows: [[Float]] = []
        while let event = try await answer.next() { if case .embeddings(let all) = event { rows = all } }
        return rows
    }

    /// Lets the enclave fetch a page, whose HTML is the answer. The page's server, and anyone who
    /// sees the enclave's traffic, can see the fetch, but not its user.
    public func fetch(_ url: String, headers: [String: String] = [:]) -> Answer {
        answer({
            let request = try Handle(free: confer_fetch_request_free) { request, error in
                withText(url) { confer_fetch_request_new($0, $1, request, error) }
            }
            for (name, value) in headers { try set(request, name, to: value, confer_fetch_request_set_header) }
            return request
        }, confer_fetch_stream)
    }

    /// Uploads a document and streams its extraction: the upload's progress as `Event.progress`,
    /// then JSON in pieces, `Event.body`. An answer or refusal during the upload ends the upload.
    public func extract(_ document: Document) -> Answer {
        answer(document.native, confer_extraction_stream)
    }

    /// Sends a request of any route, such as one without a method in this version, and streams its
    /// events.
    public func send(_ verb: String, _ path: String, body: String? = nil, ending: Ending) -> Answer {
        answer({
            let request = try Handle(free: confer_raw_request_free) { request, error in
                withText(verb) { verb, verbCount in
                    withText(path) { confer_raw_request_new(verb, verbCount, $0, $1, ending.rawValue, request, error) }
                }
            }
            if let body { try set(request, to: body, confer_raw_request_set_body) }
            return request
        }, confer_raw_stream)
    }

    private typealias Start = (
        OpaquePointer?, OpaquePointer?, UnsafePointer<confer_stream_callbacks>?, HandleOutput?, ErrorOutput?
    ) -> confer_status

    private func answer(
        _ request: () throws -> Handle, _ start: Start, lastRound: LastRound? = nil,
        read: @escaping @Sendable (OpaquePointer, Tasks) throws -> Event = { event, _ in Event(event) }
    ) -> Answer {
        Answer {
            let request = try request()
            return try Source({ start(handle.pointer, request.pointer, $0, $1, $2) }, lastRound: lastRound, read: read)
        }
    }
}
