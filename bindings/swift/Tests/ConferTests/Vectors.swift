// Runs the conformance vectors of tests/vectors. Their README defines the form of the results.

import Confer
import Foundation
import Testing

private typealias Object = [String: Any]

/// A folder of this checkout.
private let folder = URL(fileURLWithPath: #filePath + "/../../../../../tests/vectors").standardizedFileURL

private func names() -> [String] {
    let files = try? FileManager.default.contentsOfDirectory(atPath: folder.path)
    return (files ?? []).filter { $0.hasSuffix(".json") && $0 != "schema.json" }.sorted()
}

extension Promises {
    @Test func vectorsAreThere() { #expect(names().count >= 60) }

    @Test(arguments: names()) func vector(_ name: String) async throws {
        let vector = try #require(parse(read(name)) as? Object)
        let results = try await run(vector, folder.appendingPathComponent(name).path)
        #expect(try shown(results) == shown(try #require(vector["results"])))
    }
}

private func read(_ name: String) throws -> String {
    try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
}

private func parse(_ json: String) throws -> Any { try JSONSerialization.jsonObject(with: Data(json.utf8), options: .fragmentsAllowed) }

/// Writes a value as JSON, always in the same way.
private func shown(_ value: Any) throws -> String {
    let options: JSONSerialization.WritingOptions = [.sortedKeys, .fragmentsAllowed, .withoutEscapingSlashes]
    return String(decoding: try JSONSerialization.data(withJSONObject: value, options: options), as: UTF8.self)
}

private func run(_ vector: Object, _ file: String) async throws -> [Any] {
    if let evidence = vector["evidence"] as? Object { return [try verify(evidence)] }
    if let connect = vector["connect"] as? Object {
        let enclave = try Enclave(fault: try #require(connect["fault"] as? String))
        return [try await result { try await enclave.connect().close() }]
    }
    let exchange = try #require(vector["exchange"] as? Object)
    let requests = try #require(exchange["requests"] as? [Object])
    let enclave = try Enclave(options: "--script", file)
    var configuration = enclave.configuration
    if let idle = exchange["idle_ms"] as? Int {
        configuration.durations = [.idleEvents: .milliseconds(idle), .idleOther: .milliseconds(idle)]
    }
    if let bytes = exchange["unfinished_bytes"] as? Int { configuration.limits = [.unfinished: UInt64(bytes)] }
    let client = try await Client.connect(configuration)
    let sent = try requests.map { asked in Request(json: try shown(asked)) }
    var results: [String] = []
    if exchange["together"] != nil {
        let running = sent.map { request in Task { try await request.run(client) } }
        for task in running { results.append(try await task.value) }
    } else {
        for request in sent { results.append(try await request.run(client)) }
    }
    try await client.close()
    #expect(enclave.succeeds(), "the script failed")
    return try results.map(parse)
}

private func verify(_ evidence: Object) throws -> Object {
    var report: Report?
    var shown = describe(nil)
    do {
        let policy = try Policy(json: read(try #require(evidence["policy"] as? String)))
        let at = (evidence["at"] as? Int).map { Date(timeIntervalSince1970: TimeInterval($0)) }
        report = try Report.verify(evidence: read(try #require(evidence["export"] as? String)), policy: policy, at: at)
    } catch let error as ConferError {
        shown = describe(error)
        report = error.report
    }
    guard let report, var json = try parse(report.json) as? Object else { return shown.merging(["report": NSNull()]) { $1 } }
    json["checks"] = try #require(json["checks"] as? [Object]).map { check in check.filter { $0.key == "id" || $0.key == "outcome" } }
    return shown.merging(["report": json]) { $1 }
}

private func result(_ run: () async throws -> Void) async throws -> Object {
    do {
        try await run()
        return describe(nil)
    } catch let error as ConferError {
        return describe(error)
    }
}

private func describe(_ error: ConferError?) -> Object {
    let names = ["CONFER_PROGRESS_NOT_SENT", "CONFER_PROGRESS_MAYBE_SENT", "CONFER_PROGRESS_PARTLY_ANSWERED"]
    return [
        "status": error?.status.description ?? "CONFER_OK",
        "check": error?.checkID ?? NSNull(),
        "http_status": error?.httpStatus ?? NSNull(),
        "progress": error.map { names[Int($0.progress.rawValue)] } ?? NSNull(),
        "retryable": error?.isRetryable ?? NSNull(),
        "peer_text": error?.peerText ?? NSNull(),
    ]
}

/// A request as JSON, which can pass between tasks.
private struct Request {
    let json: String

    /// Returns the result as JSON.
    func run(_ client: Client) async throws -> String {
        let asked = try #require(parse(json) as? Object)
        var events = Events()
        var described = try await result { try await send(asked, client, &events) }
        described["events"] = events.list
        return try shown(described)
    }

    private func send(_ asked: Object, _ client: Client, _ events: inout Events) async throws {
        func text(_ key: String) throws -> String { try #require(asked[key] as? String) }
        let answer: Answer
        switch try text("kind") {
        case "chat": answer = client.chat(try chat(asked))
        case "raw":
            let endings = ["CONFER_ENDING_ONE_RESPONSE", "CONFER_ENDING_COMPLETION", "CONFER_ENDING_CONTENT_LENGTH"]
            let ending = try #require(try endings.firstIndex(of: text("ending")).flatMap { Ending(rawValue: Int32($0)) })
            answer = client.send(try text("verb"), try text("path"), body: try text("body"), ending: ending)
        case "fetch": answer = client.fetch(try text("url"), headers: try #require(asked["headers"] as? [String: String]))
        case "extraction":
            let options = try #require(asked["options"] as? Object).mapValues { try shown($0) }
            answer = client.extract(Document(filename: try text("filename"), .data(Data(try text("document").utf8)), options: options))
        case "embeddings":
            let texts = try #require(asked["texts"] as? [String])
            events.add(.embeddings(try await client.embed(texts, asQueries: try #require(asked["is_query"] as? Bool))))
            return
        default: return events.add(.pong(roundTrip: try await client.ping()))
        }
        for try await event in answer {
            events.add(event)
            if case .clientToolCall(let call) = event, call.wantsAnswer {
                try call.answer(try #require((asked["answers"] as? [String: String])?[call.id]))
            }
            if asked["cancel_after"] as? Int == events.list.count { answer.cancel() }
        }
    }

    private func chat(_ asked: Object) throws -> ChatRequest {
        var request = ChatRequest(messages: try #require(asked["messages"] as? [Object]).map { .json(try shown($0)) })
        request.isWhole = asked["streaming"] as? Bool == false
        request.maxToolRounds = (asked["tool_rounds"] as? Int).map(UInt32.init)
        request.properties = try (asked["properties"] as? Object ?? [:]).mapValues { try shown($0) }
        for tool in asked["tools"] as? [Object] ?? [] {
            let name = try #require(tool["name"] as? String)
            let description = try #require(tool["description"] as? String)
            request.tools.append(Tool(name: name, description: description, parameters: try shown(try #require(tool["parameters"]))))
        }
        return request
    }
}

/// Events in the normal form.
private struct Events {
    var list: [Object] = []

    mutating func add(_ event: Event) {
        func put(_ type: String, _ fields: Object) {
            list.append(fields.merging(["type": "CONFER_EVENT_" + type]) { $1 })
        }
        func tool(_ call: Event.ToolCall) -> Object {
            ["tool_call_id": call.id, "tool_name": call.name, "tool_arguments": call.arguments]
        }
        switch event {
        case .token(let text): put("TOKEN", ["content": text])
        case .thinking(let text): put("THINKING", ["content": text])
        case .toolCall(let call): put("SERVER_TOOL_CALL", tool(call))
        case .toolResponse(let response):
            put("SERVER_TOOL_RESPONSE", ["tool_call_id": response.id, "tool_name": response.name, "content": response.content,
                                         "full_content": response.fullContent ?? ""])
        case .clientToolCall(let call): put("CLIENT_TOOL_CALL", tool(call).merging(["wants_answer": call.wantsAnswer]) { $1 })
        case .completion(let end):
            put("COMPLETION", ["pending_tool_calls": end.pendingToolCalls, "context_tokens": end.contextTokens ?? NSNull(),
                               "max_context_tokens": end.maxContextTokens ?? NSNull()])
        case .body(let piece):
            var content = String(decoding: piece.content, as: UTF8.self)
            if let before = list.last, before["type"] as? String == "CONFER_EVENT_BODY" {
                content = (before["content"] as? String ?? "") + content
                list.removeLast()
            }
            if !content.isEmpty { put("BODY", ["content": content]) }
        case .progress: break
        case .embeddings(let rows): put("EMBEDDINGS", ["values": rows.map { $0.map(Double.init) }])
        case .pong: put("PONG", [:])
        case .other(let json): put("OTHER", ["json": (try? parse(json)) ?? NSNull()])
        }
    }
}
