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
        let (expected, actual) = (try shown(try #require(vector["results"])), try shown(results))
        #expect(actual == expected, "expected \(expected)\nactual \(actual)")
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
    let configuration = try adapted(enclave.configuration, exchange)
    let client = exchange["watch"] == nil ? try await Client.connect(configuration) : try Client(configuration)
    let watch = try (exchange["watch"] as? Object).map { Watch(json: try shown($0)) }
    let watching = watch.map { watch in
        let events = client.events // opened before the requests, so that no event is missed
        return Task { try await watch.run(events) }
    }
    let sent = try requests.map { asked in Request(json: try shown(asked)) }
    let conversation = try conversation(exchange)
    var results: [String] = []
    if exchange["together"] != nil {
        let running = sent.map { request in Task { try await request.run(client, conversation) } }
        for task in running { results.append(try await task.value) }
    } else {
        for request in sent { results.append(try await request.run(client, conversation)) }
    }
    if let watch { for await _ in watch.ready {} }
    try await client.close()
    if let watching { results.append(try await watching.value) }
    #expect(enclave.succeeds(), "the script failed")
    return try results.map(parse)
}

private func adapted(_ configuration: Configuration, _ exchange: Object) throws -> Configuration {
    var adapted = configuration
    if let token = exchange["token"] { adapted.token = token as? String }
    for (name, time) in exchange["durations_ms"] as? [String: Int] ?? [:] {
        adapted.durations[try constant("CONFER_DURATION", name)] = .milliseconds(time)
    }
    for (name, value) in exchange["limits"] as? [String: Int] ?? [:] {
        adapted.limits[try constant("CONFER_LIMIT", name)] = UInt64(value)
    }
    for question in exchange["ask"] as? [String] ?? [] {
        adapted.asks.insert(question == "CONFER_ASK_TOKEN" ? .token : .release)
    }
    return adapted
}

/// Returns the case of a name in confer.h: `idleEvents` of `CONFER_DURATION_IDLE_EVENTS`.
private func constant<Key: CaseIterable>(_ prefix: String, _ name: String) throws -> Key {
    try #require(Key.allCases.first { constantName(prefix, $0) == name.lowercased().filter { $0 != "_" } })
}

private func constantName(_ prefix: String, _ value: Any) -> String { "\(prefix)\(value)".lowercased().filter { $0 != "_" } }

/// Returns a text, or a list of texts and repeated texts, joined.
private func joined(_ parts: Any?) throws -> String {
    if let text = parts as? String { return text }
    return try #require(parts as? [Any]).map { part in
        if let text = part as? String { return text }
        let repeated = try #require(part as? Object)
        return String(repeating: try #require(repeated["repeat"] as? String), count: try #require(repeated["times"] as? Int))
    }.joined()
}

private func conversation(_ exchange: Object) throws -> Conversation? {
    guard let begun = exchange["conversation"] else { return nil }
    return begun is Object ? try Conversation(json: shown(begun)) : try Conversation()
}

/// The watch of a client, and what the vector says about it.
private struct Watch {
    let json: String
    /// Ends after the events before the client's close.
    let ready: AsyncStream<Void>
    private let readying: AsyncStream<Void>.Continuation

    init(json: String) {
        self.json = json
        (ready, readying) = AsyncStream.makeStream()
    }

    /// Reads the watch to its end. Returns the result as JSON.
    func run(_ stream: EventStream<ClientEvent>) async throws -> String {
        let vector = try #require(parse(json) as? Object)
        let replies = vector["replies"] as? [[Object]] ?? []
        var asked = 0
        var events: [Object] = []
        func reply(_ answer: (Object) throws -> Void) throws -> [Any] {
            asked += 1
            return try (asked <= replies.count ? replies[asked - 1] : []).map { reply in
                do {
                    try answer(reply)
                    return "CONFER_OK"
                } catch let error as ConferError {
                    return error.status.description
                }
            }
        }
        var described = try await result {
            for try await event in stream {
                switch event {
                case .stage: continue
                case .connected(_, let changed): events.append(["type": "CONFER_EVENT_CONNECTED", "release_changed": changed])
                case .disconnected(let error):
                    events.append(["type": "CONFER_EVENT_DISCONNECTED", "error": describe(error)])
                case .retry(let attempt, _, let error):
                    let error: Any = error.map { describe($0) } ?? NSNull()
                    events.append(["type": "CONFER_EVENT_RETRY", "attempt": Int(attempt), "error": error])
                case .askToken(let question):
                    let reasons = ["FIRST", "RECONNECT", "EXPIRING", "REFUSED"]
                    let statuses = try reply { reply in
                        if let token = reply["token"] as? String { return try question.answer(token) }
                        try question.refuse(try #require(reply["refuse"] as? String))
                    }
                    let reason = "CONFER_TOKEN_" + reasons[Int(question.reason.rawValue)]
                    events.append(["type": "CONFER_EVENT_ASK_TOKEN", "reason": reason, "replies": statuses])
                case .askRelease(let question):
                    let statuses = try reply { try question.answer(accept: try #require($0["accept"] as? Bool)) }
                    events.append(["type": "CONFER_EVENT_ASK_RELEASE", "replies": statuses])
                case .answered: events.append(["type": "CONFER_EVENT_ANSWERED"])
                case .other(let type): Issue.record("unknown event \(type)")
                }
                if vector["close_after"] as? Int == events.count { readying.finish() }
            }
        }
        readying.finish()
        described["events"] = events
        return try shown(described)
    }
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
    func run(_ client: Client, _ conversation: Conversation?) async throws -> String {
        let asked = try #require(parse(json) as? Object)
        var events = Events()
        var described = try await result { try await send(asked, client, conversation, &events) }
        described["events"] = events.list
        if let conversation, asked["kind"] as? String == "chat" { described["conversation"] = try parse(conversation.json) }
        return try shown(described)
    }

    private func send(
        _ asked: Object, _ client: Client, _ conversation: Conversation?, _ events: inout Events
    ) async throws {
        func text(_ key: String) throws -> String { try #require(asked[key] as? String) }
        let answer: Answer
        switch try text("kind") {
        case "chat": answer = client.chat(try chat(asked, conversation))
        case "raw":
            let ending: Ending = try constant("CONFER_ENDING", text("ending"))
            answer = client.send(try text("verb"), try text("path"), body: try text("body"), ending: ending)
        case "fetch": answer = client.fetch(try text("url"), headers: try #require(asked["headers"] as? [String: String]))
        case "extraction":
            let options = try #require(asked["options"] as? Object).mapValues { try shown($0) }
            answer = client.extract(Document(filename: try text("filename"), .data(Data(try joined(asked["document"]).utf8)), options: options))
        case "embeddings":
            let texts = try #require(asked["texts"] as? [String])
            events.add(.embeddings(try await client.embed(texts, asQueries: try #require(asked["is_query"] as? Bool))))
            return
        default: return events.add(.pong(roundTrip: try await client.ping()))
        }
        for try await event in answer {
            if case .progress = event, asked["progress"] == nil { continue }
            events.add(event)
            if case .clientToolCall(let call) = event, call.wantsAnswer {
                if let answer = (asked["answers"] as? [String: String])?[call.id] {
                    try call.answer(answer)
                } else {
                    try call.fail("no answer")
                }
            }
            if asked["cancel_after"] as? Int == events.list.count { answer.cancel() }
        }
    }

    private func chat(_ asked: Object, _ conversation: Conversation?) throws -> ChatRequest {
        var request = ChatRequest(messages: try #require(asked["messages"] as? [Object]).map { .json(try shown($0)) })
        request.conversation = conversation
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
        case .progress(let progress):
            if list.last?["type"] as? String == "CONFER_EVENT_PROGRESS" { list.removeLast() }
            put("PROGRESS", ["sent": progress.sent, "total": progress.total ?? NSNull()])
        case .embeddings(let rows): put("EMBEDDINGS", ["values": rows.map { $0.map(Double.init) }])
        case .pong: put("PONG", [:])
        case .other(let json): put("OTHER", ["json": (try? parse(json)) ?? NSNull()])
        }
    }
}
