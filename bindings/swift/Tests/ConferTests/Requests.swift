// The package's promises for requests other than chats, tools and conversations, and reconnecting.

import Confer
import Foundation
import Testing

/// Records notes from several tasks.
final class Notes<Note: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var notes: [Note] = []

    /// Returns the number of notes with this one.
    @discardableResult func add(_ note: Note) -> Int {
        lock.withLock {
            notes.append(note)
            return notes.count
        }
    }
    var all: [Note] { lock.withLock { notes } }
}

extension Promises {
    @Test func pingReportsItsRoundTrip() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (sent, received) = (client.counter(.messagesSent), client.counter(.messagesReceived))
        #expect(try await client.ping() < .seconds(60))
        #expect(client.counter(.connections) == 1 && client.counter(.failedAttempts) == 0 && client.isConnected)
        #expect(client.counter(.messagesSent) == sent + 1 && client.counter(.messagesReceived) == received + 1)
        // Bytes are counted after their content was handled.
        while client.counter(.bytesSent) == 0 || client.counter(.bytesReceived) == 0 { await Task.yield() }
        try await client.close()
    }

    @Test func textsHaveEmbeddingsInTheirOrder() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let rows = try await client.embed(["a", "b", "a"], asQueries: true)
        #expect(rows.count == 3 && rows[0].count == 64 && rows[0] == rows[2] && rows[0] != rows[1])
        #expect(abs(rows[1].map { $0 * $0 }.reduce(0, +) - 1) < 1e-5)
        #expect(try await client.embed(["a"], asQueries: false)[0] != rows[0])
        let many = Array(repeating: "", count: 65)
        #expect(try await failure { _ = try await client.embed(many, asQueries: true) }.status == .tooLarge)
        #expect(try await failure { _ = try await client.embed([], asQueries: true) }.status == .invalidArgument)
        try await client.close()
    }

    @Test func pageIsFetchedAndRefusalHasAReason() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let page = try await client.fetch("https://a.test/?q=<b>", headers: ["Accept": "text/html"]).text()
        #expect(page.contains("<code>https://a.test/?q=&lt;b&gt;</code>"))
        let refused = try await failure { _ = try await client.fetch("http://unreachable.test/").collect() }
        #expect(refused.status == .refused && refused.httpStatus == 502 && refused.peerText != nil)
        try await client.close()
    }

    @Test func documentIsUploadedFromMemoryAndFile() async throws {
        struct Extracted: Decodable {
            struct Document: Decodable { let md_content: String }
            let document: Document
        }
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let lines = String(repeating: "a line of text\n", count: 200_000)
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("lines-\(ProcessInfo.processInfo.processIdentifier)")
        try Data(lines.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let options = ["content_type": #""text/plain""#, "ocr": "false"]
        for source in [Document.Source.data(Data(lines.utf8)), .file(file.path)] {
            var (body, sent) = (Data(), [Int64]())
            for try await event in client.extract(Document(filename: "lines.txt", source, options: options)) {
                switch event {
                case .progress(let transfer):
                    sent.append(transfer.sent)
                    #expect(transfer.total == Int64(lines.utf8.count))
                case .body(let piece):
                    body += piece.content
                    #expect(piece.received == Int64(body.count) && piece.total != nil)
                default: Issue.record("\(event)")
                }
            }
            #expect(!sent.isEmpty && sent == sent.sorted() && sent.last == Int64(lines.utf8.count))
            let extracted = try JSONDecoder().decode(Extracted.self, from: body)
            #expect(extracted.document.md_content == lines)
        }
        let empty = Document(filename: "empty.txt", .data(Data()))
        #expect(try await failure { _ = try await client.extract(empty).collect() }.httpStatus == 400)
        let missing = Document(filename: "x", .file("/nonexistent"))
        #expect(try await failure { _ = try await client.extract(missing).collect() }.status == .file)
        let unknown = Document(filename: "x", .data(Data("x".utf8)), options: ["content_type": #""x/y""#])
        #expect(try await failure { _ = try await client.extract(unknown).collect() }.httpStatus == 415)
        try await client.close()
    }

    @Test func cancellingTheTaskCancelsARequest() async throws {
        let enclave = try Enclave(fault: "upload-not-read")
        let client = try await enclave.connect()
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        let streaming = Task {
            for try await _ in client.extract(Document(filename: "zeros.pdf", .data(Data(count: 20 << 20)))) { begin.yield() }
        }
        for await _ in begun { break }
        streaming.cancel()
        await #expect(throws: CancellationError.self) { try await streaming.value }
        let whole = Task { try await client.extract(Document(filename: "zeros.pdf", .data(Data(count: 20 << 20)))).collect() }
        whole.cancel()
        await #expect(throws: CancellationError.self) { _ = try await whole.value }
        let pinging = Task { try await client.ping() }
        pinging.cancel()
        await #expect(throws: CancellationError.self) { _ = try await pinging.value }
        try await client.close()
    }

    @Test func anyRouteWorks() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let chat = #"{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true,"webSearch":false}"#
        let answer = client.send("POST", "/v1/vllm/chat/completions", body: chat, ending: .completion)
        #expect(try await text(of: answer) == "You said: hello")
        var pieces: [Event] = []
        let stored = #"{"filename":"a.pdf","total_length":9,"source_object_key":"k","encryption_key":"e"}"#
        for try await piece in client.send("POST", "/v2/document/extract", body: stored, ending: .contentLength) {
            pieces.append(piece)
        }
        #expect(pieces.count >= 2)
        pieces = []
        for try await piece in client.send("GET", "/ping", ending: .oneResponse) { pieces.append(piece) }
        #expect(pieces.count == 1)
        let nowhere = try await failure {
            for try await _ in client.send("GET", "/nowhere", ending: .oneResponse) {}
        }
        #expect(nowhere.status == .refused)
        try await client.close()
    }

    @Test func answerInOnePiece() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var request = ChatRequest("hello there")
        request.isWhole = true
        var body = Data()
        for try await event in client.chat(request) {
            guard case .body(let piece) = event else {
                Issue.record("\(event)")
                continue
            }
            body += piece.content
        }
        #expect(String(decoding: body, as: UTF8.self) == "You said: hello there")
        try await client.close()
    }

    @Test func toolsRunUntilAnAnswerCallsNone() async throws {
        struct ItStands: Error, CustomStringConvertible { let description = "it stands" }
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let notes = Notes<String>()
        var request = ChatRequest(#"/client-tools 2 clock {"zone":"UTC"}"#)
        request.tools = [
            Tool(name: "clock", description: "") {
                notes.add($0)
                await Task.yield()
                return "noon"
            }
        ]
        var (answer, pending) = ("", [Bool]())
        for try await event in client.chat(request) {
            switch event {
            case .token(let token): answer += token
            case .completion(let end): pending.append(end.pendingToolCalls)
            default: break
            }
        }
        #expect(notes.all == Array(repeating: #"{"zone":"UTC"}"#, count: 2))
        #expect(answer == "The tools answered: noon | noon" && pending == [true, false])

        request.tools[0].run = { _ in throw ItStands() }
        request.messages = [.text(.user, "/client-tools 1 clock {}")]
        #expect(try await text(of: client.chat(request)) == "The tools answered: Error: it stands")

        request.messages = [.text(.user, "/endless-tool clock {}")]
        request.maxToolRounds = 3
        #expect(try await failure { _ = try await text(of: client.chat(request)) }.status == .toolRounds)
        try await client.close()
    }

    @Test func toolIsCancelledWithItsChat() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (told, tell) = AsyncStream.makeStream(of: String.self)
        var request = ChatRequest("/client-tools 1 clock {}")
        request.tools = [
            Tool(name: "clock", description: "") { _ in
                tell.yield("begun")
                do {
                    try await Task.sleep(for: .seconds(3600))
                } catch {
                    tell.yield("cancelled")
                    throw error
                }
                return ""
            }
        ]
        var notes = told.makeAsyncIterator()
        let task = Task { [request] in
            for try await _ in client.chat(request) {}
        }
        #expect(await notes.next() == "begun")
        task.cancel()
        #expect(await notes.next() == "cancelled")
        await #expect(throws: CancellationError.self) { try await task.value }

        try await client.close()
    }

    @Test func toolIsCancelledAtItsTimeLimit() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (calls, cancelled) = (Notes<Void>(), Notes<Void>())
        var request = ChatRequest("/endless-tool clock {}")
        request.tools = [
            Tool(name: "clock", description: "") { _ in
                guard calls.add(()) == 1 else { return "noon" }
                defer { cancelled.add(()) }
                try await Task.sleep(for: .seconds(3600))
                return ""
            }
        ]
        request.toolTimeout = .milliseconds(1)
        request.maxToolRounds = 1000
        // The chat goes on after the limit of its first call, and ends with an error if that call
        // is not cancelled.
        for try await _ in client.chat(request) where !cancelled.all.isEmpty { break }
        #expect(cancelled.all.count == 1)

        // The model receives an error.
        request.messages = [.text(.user, "/tool-rounds 2 clock {}")]
        request.tools[0].run = { _ in
            try await Task.sleep(for: .seconds(3600))
            return ""
        }
        let answer = try await text(of: client.chat(request))
        #expect(answer == "The tools answered: Error: no answer within 1 ms | Error: no answer within 1 ms")
        try await client.close()
    }

    @Test func failingChatAddsNothingToItsConversation() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let conversation = try Conversation()
        #expect(conversation.count == 0 && conversation.contextTokens == nil)
        var request = ChatRequest("hello")
        request.conversation = conversation
        _ = try await text(of: client.chat(request))
        #expect(conversation.count == 2)
        request.tools = [Tool(name: "clock", description: "") { _ in "noon" }]
        request.messages = [.text(.user, "/tool-rounds 3 clock {}")]
        _ = try await text(of: client.chat(request))
        // The question, three calls and results, the answer.
        #expect(conversation.count == 10 && conversation.contextTokens!.used > 0)
        let json = conversation.json
        #expect(try Conversation(json: json).json == json)
        request.messages = [.text(.user, "/status-midstream 500")]
        #expect(try await failure { _ = try await text(of: client.chat(request)) }.status == .refused)
        #expect(conversation.json == json)
        try conversation.truncate(to: 1)
        try conversation.add(.assistant, "hi")
        #expect(conversation.count == 2)
        #expect(try await failure { _ = try Conversation(json: "{}") }.status == .invalidJSON)
        try await client.close()
    }

    @Test func brokenConnectionIsReplacedWithAFreshToken() async throws {
        let enclave = try Enclave(fault: "stream-drop", options: "--fault-until", "1")
        let notes = Notes<TokenReason>()
        let token = try #require(enclave.configuration.token)
        var configuration = enclave.configuration
        configuration.token = nil
        configuration.tokenProvider = { reason in
            await Task.yield()
            notes.add(reason)
            return token
        }
        configuration.limits[.attempts] = 10
        configuration.durations[.firstRetry] = .milliseconds(10)
        configuration.renewsWithEvidence = true
        let client = try await Client.connect(configuration)
        let events = client.events
        let lost = try await failure { _ = try await text(of: client.chat(ChatRequest("x"))) }
        #expect(lost.status == .connectionLost && lost.progress != .notSent)
        #expect(try await text(of: client.chat(ChatRequest("again"))) == "You said: again")
        #expect(notes.all == [.first, .reconnect] && client.counter(.connections) == 2 && client.isConnected)
        var seen = ""
        loop: for try await event in events {
            switch event {
            case .disconnected(let error):
                #expect(error.status == .connectionLost)
                seen += "disconnected "
            case .retry(let attempt, let delay, let error):
                #expect(attempt == 1 && delay <= .milliseconds(10) && error == nil)
                seen += "retry "
            case .connected(let report, let releaseChanged):
                #expect(report.isVerified && !releaseChanged)
                seen += "connected "
                if seen.contains("retry") { break loop }
            default: break
            }
        }
        #expect(seen == "connected disconnected retry connected ")
        try await client.close()
    }

    @Test func failingProviderIsNamedWithoutDetails() async throws {
        struct NotLoggedIn: Error { let secret = "s3cret" }
        let enclave = try Enclave()
        let at = enclave.configuration
        let error = try await failure {
            _ = try await Client.connect(Configuration(endpoint: at.endpoint, policy: at.policy) { _ in throw NotLoggedIn() })
        }
        #expect(error.status == .token && error.message.contains("NotLoggedIn") && !error.message.contains("s3cret"))
        let empty = try await failure {
            _ = try await Client.connect(Configuration(endpoint: at.endpoint, policy: at.policy) { _ in "" })
        }
        #expect(empty.status == .token)
        // The message names the mistake, and does not repeat the token.
        let invalid = try await failure {
            _ = try await Client.connect(Configuration(endpoint: at.endpoint, policy: at.policy) { _ in "s3 cret" })
        }
        #expect(invalid.status == .token && invalid.message.contains("white space") && !invalid.message.contains("s3 cret"))
    }

    @Test func changedNetworkIsProbedAtOnce() async throws {
        let enclave = try Enclave(fault: "mute", options: "--fault-until", "1")
        var configuration = enclave.configuration
        configuration.limits[.attempts] = 10
        for key in [.firstRetry, .longestRetry] as [Configuration.DurationKey] {
            configuration.durations[key] = .milliseconds(10)
        }
        configuration.durations[.probe] = .milliseconds(50)
        let client = try await Client.connect(configuration)
        try client.networkChanged()
        while client.counter(.connections) < 2 {
            try client.check()
            await Task.yield()
        }
        #expect(try await text(of: client.chat(ChatRequest("again"))) == "You said: again")
        try await client.close()
        #expect(!client.isConnected)
    }

    @Test func invalidSettingsAreRefusedByName() async throws {
        let enclave = try Enclave()
        func refused(_ status: Status, _ argument: String, _ change: (inout Configuration) -> Void) async throws {
            var configuration = enclave.configuration
            change(&configuration)
            try await ConferTests.refused(status, argument) { [configuration] in _ = try await Client.connect(configuration) }
        }
        try await refused(.invalidArgument, "CONFER_DURATION_MAX_AGE") { $0.durations[.maxAge] = .seconds(1) }
        try await refused(.invalidArgument, "CONFER_DURATION_MAX_AGE") { $0.durations[.maxAge] = .microseconds(1) }
        try await refused(.invalidArgument, "CONFER_DURATION_PROBE") { $0.durations[.probe] = .seconds(-1) }
        try await refused(.invalidArgument, "CONFER_DURATION_FIRST_RETRY") { $0.durations[.firstRetry] = .zero }
        try await refused(.invalidArgument, "CONFER_LIMIT_UNFINISHED") { $0.limits[.unfinished] = 1 }
        try await refused(.invalidArgument, "questions") { $0.asks = .init(rawValue: 4) }
        try await refused(.invalidArgument, "token") { $0.token = nil }
        try await refused(.invalidArgument, "pem") { $0.roots = .pem("none") }
        try await refused(.invalidURL, "proxy") { $0.proxy = .url("ftp://proxy.test") }
        // A proxy cannot lead to this machine.
        try await refused(.invalidURL, "endpoint") { $0.proxy = .url("socks5://proxy.test") }

        var configuration = enclave.configuration
        configuration.proxy = .environment
        configuration.limits[.requests] = 1
        let client = try await Client.connect(configuration)
        for try await _ in client.chat(ChatRequest("/silent")) {
            #expect(try await failure { _ = try await client.ping() }.status == .tooMany)
            break
        }
        try await client.close()
    }
}
