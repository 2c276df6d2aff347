// The package's promises for answers: whole ones, calls of tools as events, written documents.

@testable import Confer
import Foundation
import Testing

extension Promises {
    @Test func wholeAnswerIsCollected() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let answer = client.chat(ChatRequest("hello there"))
        #expect(try await answer.text() == "You said: hello there")
        #expect(answer.collected == Data("You said: hello there".utf8))
        let failing = client.chat(ChatRequest("/status-midstream 500"))
        #expect(try await failure { _ = try await failing.collect() }.status == .refused)
        #expect(!failing.collected.isEmpty)
        let tooLong = client.chat(ChatRequest("/tokens 33 1048576"))
        let error = try await failure { _ = try await tooLong.collect() }
        #expect(error.status == .tooLarge && error.progress == .partlyAnswered)
        let partly = client.chat(ChatRequest("hello there"))
        for try await _ in partly { break }
        #expect(try await partly.text() == "said: hello there")
        let cancelled = client.chat(ChatRequest("/silent"))
        cancelled.cancel()
        #expect(try await failure { _ = try await cancelled.collect() }.status == .cancelled)
        let waiting = Task { try await client.chat(ChatRequest("/silent")).collect() }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { _ = try await waiting.value }
        try await client.close()
    }

    @Test func lastRoundWithoutATextIsEmpty() throws {
        var round = LastRound()
        let completion = Event.completion(.init(pendingToolCalls: false, contextTokens: nil, maxContextTokens: nil))
        for event in [.token("Let me look"), completion, completion] { try round.add(event) }
        #expect(round.content.isEmpty)
    }

    @Test func collectingRunsToolsAndReturnsTheLastRound() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        // Its first round has text too.
        var request = ChatRequest("/mixed-tools clock {}")
        request.tools = [Tool(name: "clock", description: "") { _ in "noon" }, Tool(name: "other", description: "")]
        let answer = client.chat(request)
        for _ in 0..<2 { #expect(try await answer.text() == "The tools answered: clear sky, 21 degrees | noon") }
        #expect(answer.collected == Data("The tools answered: clear sky, 21 degrees | noon".utf8))
        // Nobody can answer this call.
        request.messages = [.text(.user, "/client-tools 1 other {}")]
        #expect(try await client.chat(request).text().hasPrefix("The tools answered: Error: "))

        request.messages = [.text(.user, "/status-midstream 500")]
        let failing = client.chat(request)
        #expect(try await failure { _ = try await failing.collect() }.status == .refused)
        #expect(!failing.collected.isEmpty)
        request.messages = [.text(.user, "/tokens 33 1048576")]
        // The library's words, also where this package collects the text.
        let library = client.chat(ChatRequest("/tokens 33 1048576"))
        let words = try await failure { _ = try await library.collect() }.message
        let tooLong = client.chat(request)
        for _ in 0..<2 {
            let error = try await failure { _ = try await tooLong.collect() }
            #expect(error.status == .tooLarge && error.progress == .partlyAnswered && error.message == words)
            #expect(tooLong.collected.count == 32 << 20)
        }
        request.messages = [.text(.user, "/silent")]
        let waiting = Task { [request] in try await client.chat(request).collect() }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { _ = try await waiting.value }

        // Without functions, the calls are for the application.
        request.messages = [.text(.user, "/client-tools 1 other {}")]
        request.tools.removeFirst()
        #expect(try await client.chat(request).text() == "")
        request.maxToolRounds = 1
        #expect(try await failure { [request] in _ = try await client.chat(request).text() }.status == .invalidArgument)
        try await client.close()
    }

    @Test func callsOfToolsAreEventsThatWantAnswers() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var request = ChatRequest("/client-tools 3 clock {}")
        request.tools = [Tool(name: "clock", description: "")]
        request.maxToolRounds = 1
        var (answer, calls) = ("", [Event.ToolCall]())
        for try await event in client.chat(request) {
            switch event {
            case .token(let token): answer += token
            case .clientToolCall(let call):
                #expect(call.wantsAnswer)
                calls.append(call)
                guard calls.count == 3 else { continue }
                // In any order, and on kept events.
                try calls[1].fail("it stands")
                try calls[0].answer("noon")
                #expect(try await failure { [calls] in try calls[0].answer("one") }.status == .stale)
                // Nobody can answer the third one any more.
                calls.removeLast()
            default: break
            }
        }
        #expect(answer.hasPrefix("The tools answered: noon | Error: it stands | Error: "))

        // An answer after the end is dropped, and a call that wants none takes none.
        request.messages = [.text(.user, "/client-tools 1 clock {}")]
        let stream = client.chat(request)
        for try await event in stream {
            guard case .clientToolCall(let call) = event else { continue }
            stream.cancel()
            try call.answer("too late")
            break
        }
        request.maxToolRounds = nil
        request.messages = [.text(.user, "/mixed-tools clock {}")]
        let server = "the server runs its tool"
        #expect(try await reasons(request) == [server, "its tool is not in the request, or maxToolRounds is not set"])
        request.tools = [Tool(name: "clock", description: "") { _ in "noon" }]
        #expect(try await reasons(request) == [server, "its tool has a function"])
        try await client.close()

        /// Why calls want no answer.
        func reasons(_ request: ChatRequest) async throws -> [String] {
            var reasons = [String]()
            for try await event in client.chat(request) {
                switch event {
                case .toolCall(let call), .clientToolCall(let call):
                    #expect(!call.wantsAnswer)
                    let errors = [try await failure { try call.answer("noon") }, try await failure { try call.fail("it stands") }]
                    #expect(errors[0].message == errors[1].message)
                    #expect(errors.allSatisfy { $0.status == .invalidArgument })
                    reasons.append(errors[0].message.replacingOccurrences(of: "this call wants no answer: ", with: ""))
                default: break
                }
            }
            return reasons
        }
    }

    @Test func closingCancelsAToolOfAStreamThatNobodyReads() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let (told, tell) = AsyncStream.makeStream(of: String.self)
        var request = ChatRequest("/client-tools 1 clock {}")
        request.tools = [
            Tool(name: "clock", description: "") { _ in
                tell.yield("begun")
                defer { tell.yield("over") }
                try await Task.sleep(for: .seconds(3600))
                return ""
            }
        ]
        let stream = client.chat(request)
        for try await event in stream {
            if case .clientToolCall(let call) = event {
                #expect(!call.wantsAnswer)
                break
            }
        }
        var notes = told.makeAsyncIterator()
        #expect(await notes.next() == "begun")
        try await client.close()
        #expect(await notes.next() == "over")
        #expect(try await failure { for try await _ in stream {} }.status == .closed)
    }

    @Test func documentIsWrittenToItsStream() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let lines = Data(String(repeating: "a line of text\n", count: 200_000).utf8)
        let upload = client.extract(Document(filename: "lines.txt", .stream(length: Int64(lines.count))))
        for start in stride(from: 0, to: lines.count, by: 700_000) {
            try await upload.write(lines[start..<min(start + 700_000, lines.count)])
        }
        try upload.finish()
        let extracted = try await upload.text()
        #expect(extracted.contains(#"a line of text\na line of text"#) && extracted.utf8.count > lines.count)

        let short = client.extract(Document(filename: "x.txt", .stream(length: 10)))
        try await short.write(Data("x".utf8))
        #expect(try await failure { try short.finish() }.status == .invalidArgument)
        // Newer servers refuse an unknown length.
        let endless = client.extract(Document(filename: "x.txt", .stream(length: nil)))
        try await endless.write(Data("x".utf8))
        try endless.finish()
        #expect(try await failure { _ = try await endless.collect() }.httpStatus == 400)
        let over = client.extract(Document(filename: "x.txt", .stream(length: 10)))
        over.cancel()
        // Cancelling does not wait for the upload's end.
        #expect(try await failure { while true { try await over.write(Data()) } }.status == .stale)
        #expect(try await failure { try await client.chat(ChatRequest("x")).write(Data()) }.status == .invalidArgument)
        try await client.close()
    }

    @Test func cancellingTheTaskCancelsAWrite() async throws {
        let enclave = try Enclave(fault: "upload-not-read")
        let client = try await enclave.connect()
        let upload = client.extract(Document(filename: "zeros.pdf", .stream(length: 200 << 20)))
        let writing = Task { while true { try await upload.write(Data(count: 1 << 20)) } }
        for try await _ in upload { break }
        writing.cancel()
        await #expect(throws: CancellationError.self) { try await writing.value }
        #expect(try await failure { _ = try await upload.collect() }.status == .cancelled)
        try await client.close()
    }
}
