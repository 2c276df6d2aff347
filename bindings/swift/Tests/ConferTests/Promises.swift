// The package's promises, against local enclaves.

import Confer
import Foundation
import Testing

/// The limit only ends a test that hangs.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct Promises {
    @Test func chatIsALoop() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var answer = ""
        var completion: Event.Completion?
        for try await event in client.chat(ChatRequest("hello there")) {
            switch event {
            case .token(let token): answer += token
            case .completion(let end): completion = end
            default: Issue.record("\(event)")
            }
        }
        #expect(answer == "You said: hello there")
        #expect(try #require(completion?.contextTokens) > 0)
        let unicode = try await text(of: client.chat(ChatRequest("/unicode")))
        #expect(unicode.unicodeScalars.contains("\u{0}") && unicode.contains("你好"))
        try await client.close()
    }

    @Test func twoStreamsShareAConnection() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var first = client.chat(ChatRequest("/tokens 100 4")).makeAsyncIterator()
        var second = client.chat(ChatRequest("/tokens 100 4")).makeAsyncIterator()
        for _ in 0..<101 {
            let (one, two) = (try await first.next(), try await second.next())
            #expect(one != nil && one == two)
        }
        #expect(try await first.next() == nil && client.counter(.connections) == 1)
        try await client.close()
    }

    @Test func requestContainsAllItsProperties() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var request = ChatRequest(
            messages: [
                .text(.system, "be brief"), .json(#"{"role":"user","content":"look","imageRefs":[]}"#),
                .text(.user, "/echo-request"),
            ], model: "some/model")
        request.allowsWebSearch = true
        (request.temperature, request.topP, request.minP, request.topK) = (0.5, 0.25, 0.125, -1)
        (request.presencePenalty, request.frequencyPenalty, request.repetitionPenalty) = (-1.5, 1.5, 1.25)
        (request.maxTokens, request.json, request.thinking) = (1000, true, false)
        let document = StoredDocument(
            json: #"{"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf","sourceBytes":7,"#
                + #""sourceObjectKey":"o","encryptionKey":"k"}"#)
        request.documents = [document, document]
        request.tools = [Tool(name: "clock", description: "tells the time")]
        request.properties = ["newer": "[1]"]
        let sent = try await text(of: client.chat(request))
        for part in [
            #""be brief""#, #""imageRefs":[]"#, #""some/model""#, #""webSearch":true"#, #""temperature":0.5"#, #""topP":0.25"#,
            #""minP":0.125"#, #""topK":-1"#, #""presencePenalty":-1.5"#, #""frequencyPenalty":1.5"#,
            #""repetitionPenalty":1.25"#, #""maxTokens":1000"#, #""json":true"#, #""thinking":false"#, #""newer":[1]"#,
            #"{"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf","sourceBytes":7,"#
                + #""sourceObjectKey":"o","encryptionKey":"k"},{"attachmentId":"one""#,
            #"{"name":"clock","description":"tells the time","parameters":{"type":"object"}}"#,
        ] {
            #expect(sent.contains(part))
        }
        request.temperature = -1
        try await refused(.invalidArgument, "temperature") { _ = try await text(of: client.chat(request)) }
        (request.temperature, request.documents) = (nil, [StoredDocument(json: "[]")])
        try await refused(.invalidJSON, "json") { _ = try await text(of: client.chat(request)) }
        (request.documents, request.properties) = ([], ["newer": "{"])
        try await refused(.invalidJSON, "json") { _ = try await text(of: client.chat(request)) }
        try await refused(.invalidArgument, "request") { _ = try await text(of: client.chat(ChatRequest(messages: []))) }
        try await client.close()
    }

    @Test func serverAndClientToolsDiffer() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var events: [Event] = []
        for try await event in client.chat(ChatRequest(#"/client-tool clock {"zone":"UTC"}"#)) { events.append(event) }
        guard events.count == 2, case .clientToolCall(let call) = events[0], case .completion(let end) = events[1] else {
            Issue.record("\(events)")
            return
        }
        #expect(call.name == "clock" && call.arguments == #"{"zone":"UTC"}"# && !call.id.isEmpty && end.pendingToolCalls)

        events = []
        for try await event in client.chat(ChatRequest("/server-tool")) { events.append(event) }
        guard case .toolCall = events[0], case .toolResponse(let response) = events[1] else {
            Issue.record("\(events)")
            return
        }
        #expect(response.content == "clear sky" && response.fullContent == "clear sky, 21 degrees")

        events = []
        for try await event in client.chat(ChatRequest("/unknown-event")) { events.append(event) }
        #expect(events.contains { if case .other(let json) = $0 { json.contains("weather") } else { false } })
        try await client.close()
    }

    @Test func refusedEnclaveErrorHasCheckAndReport() async throws {
        let enclave = try Enclave(fault: "binding-other-key")
        let error = try await failure { _ = try await enclave.connect() }
        #expect(error.status == .rejected && error.checkID == "tdx.key_binding")
        #expect(!error.isRetryable && error.progress == .notSent)
        let report = try #require(error.report)
        #expect(!report.isVerified)
        #expect(report.checks.filter { $0.outcome == .fail }.map(\.id) == ["tdx.key_binding"])
        #expect("\(report)".hasPrefix("refused: platform TDX, ") && "\(report)".contains("\nfail tdx.key_binding: "))
    }

    @Test func evidenceVerifiesAgain() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let report = try client.report()
        #expect(report.isVerified && report.content.platform == "TDX")
        #expect(report.content.endpoint == enclave.configuration.endpoint && report.content.serverKey.count == 64)
        #expect(report.content.tdx.rtmr1?.count == 96 && report.content.release.signer != nil)
        #expect(try #require(report.timing(of: .all)) >= #require(report.timing(of: .verify)))
        #expect(report.timing(of: .proxy) == nil)
        let lines = "\(report)".split(separator: "\n")
        #expect(lines.count == 1 + report.checks.count && lines[0].hasPrefix("verified: platform TDX, release "))
        #expect(lines.dropFirst().allSatisfy { $0.contains(/^(pass|warn) [a-z0-9_.]+: \w.*\.$/) }, "\(report)")
        let policy = try #require(enclave.configuration.policy)
        #expect(report.content.policy.name == policy.name && report.content.policy.sha256 == policy.sha256)
        let again = try Report.verify(evidence: report.evidence, policy: policy)
        #expect(again.isVerified && again.timing(of: .verify) == nil)
        let other = try await failure { _ = try Report.verify(evidence: report.evidence, policy: .production()) }
        #expect(other.status == .rejected && other.checkID == "ita.key")
        let expired = Date(timeIntervalSince1970: Double(try #require(report.content.expiresAt) + 3600))
        let late = try await failure { _ = try Report.verify(evidence: report.evidence, policy: policy, at: expired) }
        #expect(late.status == .rejected && late.checkID == "ita.time" && late.report?.isVerified == false)
        try await client.close()
    }

    @Test func refusedRequestHasItsHTTPStatus() async throws {
        let enclave = try Enclave(fault: "request-402")
        let client = try await enclave.connect()
        let error = try await failure { _ = try await text(of: client.chat(ChatRequest("x"))) }
        #expect(error.status == .paymentRequired && error.httpStatus == 402)
        try await client.close()
    }

    @Test func cancellingTheTaskCancelsTheStream() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        // One waits for an event that never comes. The other is between two events.
        for prompt in ["/silent", "/slow 1 100000"] {
            let task = Task {
                for try await _ in client.chat(ChatRequest(prompt)) { begin.yield() }
            }
            for await _ in begun { break }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
        #expect(try await text(of: client.chat(ChatRequest("still here"))) == "You said: still here")
        try await client.close()
    }

    /// A loop that ends without an error has read the whole answer, wherever it was cancelled.
    @Test func cancelledLoopEndsOnlyAfterACompleteAnswer() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        @Sendable func cancelled() async { while !Task.isCancelled { await Task.yield() } }
        @Sendable func read(_ prompt: String, body: @Sendable (Event) async -> Void) async throws {
            var isComplete = false
            for try await event in client.chat(ChatRequest(prompt)) {
                if case .completion = event { isComplete = true }
                await body(event)
            }
            #expect(isComplete)
        }
        let beforeTheLoop = Task {
            await cancelled()
            try await read("hello") { _ in }
        }
        let betweenTwoEvents = Task { try await read("/tokens 10 4") { _ in await cancelled() } }
        for task in [beforeTheLoop, betweenTwoEvents] {
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
        let (ending, end) = AsyncStream.makeStream(of: Void.self)
        let afterTheCompletion = Task {
            try await read("hello") { event in
                guard case .completion = event else { return }
                end.yield()
                await cancelled()
            }
        }
        for await _ in ending { break }
        afterTheCompletion.cancel()
        try await afterTheCompletion.value
        for yields in 0..<200 {
            let task = Task {
                try await read("/tokens 20 4") { _ in for _ in 0..<5 { await Task.yield() } }
            }
            for _ in 0..<yields * 3 { await Task.yield() }
            task.cancel()
            if case .failure(let error) = await task.result { #expect(error is CancellationError, "\(error)") }
        }
        try await client.close()
    }

    @Test func cancellingTheTaskCancelsConnecting() async throws {
        let enclave = try Enclave(fault: "message1-stall")
        let task = Task { try await enclave.connect() }
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }

        var hasty = enclave.configuration
        hasty.durations[.connect] = .milliseconds(50)
        #expect(try await failure { [hasty] in _ = try await Client.connect(hasty) }.status == .stageTimeout)
    }

    /// Each event reaches exactly one of them.
    @Test func twoTasksCanShareAStream() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let answer = client.chat(ChatRequest("/tokens 20000 40"))
        let counts = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    var tokens = 0
                    for try await event in answer {
                        if case .token(let text) = event {
                            #expect(text.utf8.count == 40)
                            tokens += 1
                        }
                    }
                    return tokens
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(counts == 20000)
        try await client.close()
    }

    @Test func leavingTheLoopReleasesTheStream() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let before = openDescriptors()
        for _ in 0..<50 {
            for try await _ in client.chat(ChatRequest("/slow 1 100000")) { break }
        }
        #expect(try await noDescriptorsLeft(since: before))
        try await client.close()
    }

    /// If each needed a thread, they would fill the pool and the last could never run.
    @Test func manyWaitingStreamsBlockNoThread() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        try await withThrowingTaskGroup(of: Void.self) { group in
            let (begun, begin) = AsyncStream.makeStream(of: Void.self)
            for _ in 0..<200 {
                group.addTask {
                    for try await _ in client.chat(ChatRequest("/silent")) { begin.yield() }
                }
            }
            var waiting = 0
            for await _ in begun {
                waiting += 1
                if waiting == 200 { break }
            }
            let through = try await text(of: client.chat(ChatRequest("through")))
            #expect(through == "You said: through")
            group.cancelAll()
            while let ended = await group.nextResult() {
                if case .failure(let error) = ended { #expect(error is CancellationError) }
            }
        }
        try await client.close()
    }

    @Test func closingEndsStreamsAndIsFinal() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            try await failure { for try await _ in client.chat(ChatRequest("/slow 1 100000")) { begin.yield() } }
        }
        for await _ in begun { break }
        try await client.close()
        try await client.close()
        #expect(try await task.value.status == .closed)
        #expect(try await failure { try client.check() }.status == .closed)
        #expect(try await failure { _ = try await text(of: client.chat(ChatRequest("x"))) }.status == .closed)
    }

    @Test func secretsAreNeverPrinted() async throws {
        var configuration = Configuration(token: "s3cret", endpoint: "http://elsewhere.example/?key=s3cret")
        configuration.proxy = .url("http://me:s3cret@proxy.test")
        let document = StoredDocument(json: #"{"encryptionKey":"s3cret"}"#)
        let error = try await failure { [configuration] in _ = try await Client.connect(configuration) }
        #expect(error.status == .invalidURL)
        var printed = "\(document) \(String(reflecting: document)) \(configuration) \(String(reflecting: configuration)) \(error) \(error.localizedDescription)"
        dump(configuration, to: &printed)
        dump(error, to: &printed)
        dump(document, to: &printed)
        let request = ChatRequest("s3cret")
        let event = Event.token("s3cret")
        printed += "\(request) \(String(reflecting: request)) \(request.messages) \(event) \(String(reflecting: [event]))"
        dump(request, to: &printed)
        dump(event, to: &printed)
        let tool = Tool(name: "clock", description: "s3cret", parameters: #"{"title":"s3cret"}"#)
        printed += "\(tool) \(String(reflecting: tool))"
        dump(tool, to: &printed)
        #expect(!printed.contains("s3cret"))
    }

    @Test func argumentsAreRefusedByName() async throws {
        var configuration = Configuration(token: "x")
        configuration.durations[.idleEvents] = .seconds(-1)
        try await refused(.invalidArgument, "CONFER_DURATION_IDLE_EVENTS") { [configuration] in
            _ = try await Client.connect(configuration)
        }
        let invalid = try await failure { _ = try Policy(json: "{}") }
        #expect(invalid.status == .invalidPolicy && invalid.message == "policy lacks the key \"version\"")
        try await refused(.file, "path: /nonexistent") { _ = try Policy(contentsOfFile: "/nonexistent") }
        #expect(try Policy(json: Policy.production().json).json != Policy.strict().json)
    }
}

/// Every constant of the header has its name and value here, and none is missing.
@Test func tablesMatchTheHeader() throws {
    func camel(_ name: Substring) -> String { name.filter { $0 != "_" }.lowercased() }
    // What is left was not compared.
    var header: [String: Int32] = [:]
    for line in try read("../../include/confer.h").matches(of: /#define (CONFER_\w+) (-?\d+)\n/) {
        header[String(line.1)] = try #require(Int32(line.2))
    }
    #expect(header.count >= 130)

    for line in try read("Sources/Confer/Status.swift").matches(of: /static let `?(\w+)`? = Status\(rawValue: (CONFER_E_(\w+))\)/) {
        let number = header.removeValue(forKey: String(line.2))
        #expect(camel(line.1) == camel(line.3) && number.map { "\(Status(rawValue: $0))" } == String(line.2))
    }
    func compare<Enumeration: CaseIterable & RawRepresentable>(_: Enumeration.Type, _ family: String)
    where Enumeration.RawValue == Int32 {
        for value in Enumeration.allCases {
            let name = header.keys.first { $0.hasPrefix(family) && camel($0.dropFirst(family.count)) == camel("\(value)") }
            let number = name.flatMap { header.removeValue(forKey: $0) }
            #expect(number == value.rawValue, "\(family)\(value)")
        }
    }
    compare(ChatRequest.Role.self, "CONFER_ROLE_")
    compare(Client.Counter.self, "CONFER_COUNTER_")
    compare(Client.State.self, "CONFER_CLIENT_")
    compare(Configuration.DurationKey.self, "CONFER_DURATION_")
    compare(Configuration.LimitKey.self, "CONFER_LIMIT_")
    compare(Configuration.LogLevel.self, "CONFER_LOG_")
    compare(Ending.self, "CONFER_ENDING_")
    compare(ConferError.Progress.self, "CONFER_PROGRESS_")
    compare(Stage.self, "CONFER_STAGE_")
    compare(TokenReason.self, "CONFER_TOKEN_")
    for outcome in Report.Check.Outcome.allCases { header["CONFER_OUTCOME_\(outcome.rawValue.uppercased())"] = nil }
    // These are used by name.
    let events = try read("Sources/Confer/Event.swift") + read("Sources/Confer/ClientEvent.swift")
    for line in events.matches(of: /case (CONFER_EVENT_\w+):/) { header[String(line.1)] = nil }
    for line in try read("Sources/Confer/Configuration.swift").matches(of: /(CONFER_(ASK|ROOTS)_\w+)/) { header[String(line.1)] = nil }
    // This is the JSON of `Event.other`.
    header["CONFER_EVENT_OTHER"] = nil

    let rest = header.keys.filter { !$0.hasPrefix("CONFER_VERSION_") }
    #expect(rest.sorted() == ["CONFER_END", "CONFER_OK", "CONFER_TIMEOUT"])
}

/// Every public name has a comment for the documentation. (Printing.swift has only conformances.)
@Test func publicNamesHaveComments() throws {
    for file in try sources() where file != "Printing.swift" {
        let lines = try read("Sources/Confer/" + file).split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.trimmingCharacters(in: .whitespaces) }
        for (line, before) in zip(lines.dropFirst(), lines) {
            guard line.hasPrefix("public ") || line.contains(/^case `?\w+`?( = |\(\w|$)/) else { continue }
            let conforms = line.contains(/(description|debugDescription|customMirror): (String|Mirror) \{/)
            #expect(before.hasPrefix("///") || conforms, "\(file): \(line)")
        }
    }
}

/// The package calls every function of the header, or has a reason not to.
@Test func packageUsesEachFunctionOfTheHeader() throws {
    var left = [
        "connect": "Client.connect starts a client and waits for it, which a task can cancel",
        "error_clone": "errors are copies",
        "report_": "reports are read from their JSON",
        "extraction_request_set_document_callback": "the application writes to the answer",
        "stream_fd": "on_ready wakes tasks",
        "_name": "the cases of enumerations have names in Swift",
        "version_number": "Library.version has the same as text",
    ]
    let code = try sources().map { try read("Sources/Confer/" + $0).replacing(/(?m)^ *\/\/.*$/, with: "") }.joined()
    let used = Set(code.matches(of: /\bconfer_([a-z0-9_]+)/).map { String($0.1) })
    let functions = try read("../../include/confer.h").matches(of: /(?m)^[a-z][a-z0-9_ ]*[ *]confer_([a-z0-9_]+)\(/)
        .map { String($0.1) }
    #expect(functions.count >= 190)
    var unknown: [String] = []
    var reasons: Set<String> = []
    for function in functions where !used.contains(function) {
        let reason = left.keys.first { function == $0 || $0.hasSuffix("_") && function.hasPrefix($0) || $0.hasPrefix("_") && function.hasSuffix($0) }
        if let reason { reasons.insert(reason) } else { unknown.append(function) }
    }
    #expect(unknown == [])
    for reason in reasons { left[reason] = nil }
    #expect(left == [:])
}

private let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")

private func sources() throws -> [String] {
    try FileManager.default.contentsOfDirectory(
        atPath: package.appendingPathComponent("Sources/Confer").standardizedFileURL.path)
}

private func read(_ path: String) throws -> String {
    try String(contentsOf: package.appendingPathComponent(path).standardizedFileURL, encoding: .utf8)
}

func openDescriptors() -> Int {
    (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
}

/// Waits until no more descriptors are open than before, at most a minute. Other tests read files
/// at the same time.
func noDescriptorsLeft(since before: Int) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(60)
    while openDescriptors() > before {
        guard ContinuousClock.now < end else { return false }
        try await Task.sleep(for: .milliseconds(1))
    }
    return true
}
