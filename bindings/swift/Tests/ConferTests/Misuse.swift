// The package's promises to programs that cancel, release and read at odd times.

import Confer
import Foundation
import Testing

/// Counts what is alive.
private final class Alive: @unchecked Sendable {
    private let lock = NSLock()
    private var number = 0
    var count: Int { lock.withLock { number } }

    /// Something that a closure captures.
    final class Token: Sendable {
        private let alive: Alive
        init(_ alive: Alive) {
            self.alive = alive
            alive.add(1)
        }
        deinit { alive.add(-1) }
        func use() {}
    }

    private func add(_ change: Int) { lock.withLock { number += change } }
    func token() -> Token { Token(self) }
    /// Waits until nothing is alive. The limit of the test ends the wait.
    func ends() async throws {
        while count > 0 {
            try Task.checkCancellation()
            await Task.yield()
        }
    }
}

extension Promises {
    /// A task that is cancelled at any point throws `CancellationError` or completes. The client
    /// continues.
    @Test func taskCanBeCancelledAtAnyPoint() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        var request = ChatRequest("/client-tools 1 clock {}")
        request.tools = [Tool(name: "clock", description: "") { _ in "noon" }]
        for yields in 0..<60 {
            let tasks = [
                Task { try await enclave.connect().close() },
                Task { for try await _ in client.chat(ChatRequest("/tokens 50 4")) {} },
                Task { for try await _ in client.chat(request) {} },
                Task { _ = try await client.chat(ChatRequest("hello")).text() },
                Task { _ = try await client.ping() },
                Task { _ = try await client.embed(["a"], asQueries: true) },
                Task {
                    let upload = client.extract(Document(filename: "x.txt", .stream(length: 100_000)))
                    try await upload.write(Data(count: 100_000))
                    try upload.finish()
                    _ = try await upload.collect()
                },
                Task { for try await _ in client.events { try Task.checkCancellation() } },
            ]
            for _ in 0..<yields * 5 { await Task.yield() }
            tasks.forEach { $0.cancel() }
            for task in tasks {
                let result = await task.result
                if case .failure(let error) = result { #expect(error is CancellationError, "\(error)") }
            }
        }
        #expect(try await client.chat(ChatRequest("still here")).text() == "You said: still here")
        try await client.close()
    }

    @Test func streamIsReadTwiceAndByManyAndNever() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let answer = client.chat(ChatRequest("hello"))
        #expect(try await text(of: answer) == "You said: hello")
        #expect(try await text(of: answer) == "")
        #expect(try await answer.collect().isEmpty)
        // A failure reaches every reader, also one that comes later.
        let failing = client.chat(ChatRequest("/status-midstream 500"))
        for _ in 0..<2 {
            #expect(try await failure { for try await _ in failing {} }.status == .refused)
        }
        let collected = client.chat(ChatRequest("/status-midstream 500"))
        #expect(try await failure { _ = try await collected.collect() }.status == .refused)
        #expect(try await failure { for try await _ in collected {} }.status == .refused)
        let silent = client.chat(ChatRequest("/silent"))
        try await withThrowingTaskGroup(of: Status.self) { group in
            for _ in 0..<5 {
                group.addTask { try await failure { for try await _ in silent {} }.status }
            }
            silent.cancel()
            for try await status in group { #expect(status == .cancelled) }
        }
        let invalid = client.chat(ChatRequest(messages: []))
        for _ in 0..<2 {
            #expect(try await failure { for try await _ in invalid {} }.status == .invalidArgument)
        }
        for _ in 0..<20 { _ = client.chat(ChatRequest("/slow 1 100000")) }
        #expect(try await client.chat(ChatRequest("still here")).text() == "You said: still here")
        try await client.close()
    }

    @Test func manyChatsRunAtOnce() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for number in 0..<50 {
                group.addTask { (number, try await client.chat(ChatRequest("chat \(number)")).text()) }
            }
            for try await (number, answer) in group { #expect(answer == "You said: chat \(number)") }
        }
        #expect(client.counter(.connections) == 1)
        try await client.close()
    }

    /// Every closure is released with its client, however the client ends, and nothing of the
    /// library is left.
    @Test func nothingIsLeftOfAHundredClients() async throws {
        let enclave = try Enclave()
        let alive = Alive()
        // What the process itself opens at its first use.
        try await enclave.connect().close()
        #expect(try await Library.waitForThreads())
        let before = openDescriptors()
        for number in 0..<100 {
            let token = alive.token()
            var configuration = enclave.configuration
            let secret = try #require(configuration.token)
            configuration.token = nil
            configuration.tokenProvider = { _ in
                token.use()
                return secret
            }
            configuration.releaseDecision = { _, _ in
                token.use()
                return true
            }
            configuration.log = { _, _, _ in token.use() }
            var request = ChatRequest("/client-tools 1 clock {}")
            request.tools = [
                Tool(name: "clock", description: "") { _ in
                    token.use()
                    return "noon"
                }
            ]
            switch number % 10 {
            case 0: try await Client.connect(configuration).close()
            case 1: _ = try Client(configuration)
            case 2: _ = try await Client.connect(configuration)
            case 3:
                let client = try await Client.connect(configuration)
                for try await _ in client.chat(request) {}
            case 4:
                // The answer outlives its client, and the stream of events does not keep it.
                var client = try Client(configuration) as Client?
                let (answer, events) = (client!.chat(request), client!.events)
                client = nil
                #expect(try await text(of: answer) == "The tools answered: noon")
                for try await _ in events { break }
            case 5:
                let client = try Client(configuration)
                for try await _ in client.chat(request) { break }
            case 6:
                let client = try Client(configuration)
                let answer = client.chat(request)
                try await client.close()
                #expect(try await failure { for try await _ in answer {} }.status == .closed)
            case 7:
                let task = Task { [configuration] in try await Client.connect(configuration) }
                task.cancel()
                _ = await task.result
            case 8:
                configuration.tokenProvider = { _ in
                    token.use()
                    throw CancellationError()
                }
                #expect(try await failure { [configuration] in _ = try await Client.connect(configuration) }.status == .token)
            default:
                let client = try await Client.connect(configuration)
                _ = (client.chat(request), client.events, try client.report())
                Task { try await client.close() }
            }
        }
        try await alive.ends()
        #expect(try await Library.waitForThreads())
        #expect(try await noDescriptorsLeft(since: before))
    }

    /// A closure that captures its client keeps it until `close`.
    @Test func closingEndsACycleOfAClosureAndItsClient() async throws {
        final class Owner: @unchecked Sendable { var client: Client? }
        let enclave = try Enclave()
        let alive = Alive()
        for closes in [true, false] {
            let owner = Owner()
            let token = alive.token()
            var configuration = enclave.configuration
            let secret = try #require(configuration.token)
            configuration.token = nil
            if closes {
                configuration.tokenProvider = { _ in
                    token.use()
                    _ = owner.client?.state
                    return secret
                }
            } else {
                configuration.tokenProvider = { [weak owner] _ in
                    token.use()
                    _ = owner?.client?.state
                    return secret
                }
            }
            let client = try await Client.connect(configuration)
            owner.client = client
            if closes { try await client.close() }
        }
        try await alive.ends()
    }

    @Test func closeDoesNotWaitForClosuresThatNeverReturn() async throws {
        let enclave = try Enclave()
        let (told, tell) = AsyncStream.makeStream(of: Void.self)
        let (never, end) = AsyncStream.makeStream(of: Void.self)
        @Sendable func ignoringCancellation() async -> String {
            tell.yield()
            await Task.detached { for await _ in never {} }.value
            return ""
        }
        var configuration = enclave.configuration
        configuration.token = nil
        configuration.tokenProvider = { _ in await ignoringCancellation() }
        let asking = try Client(configuration)
        var notes = told.makeAsyncIterator()
        await notes.next()
        try await asking.close()
        #expect(asking.state == .ended)

        let client = try await enclave.connect()
        var request = ChatRequest("/client-tools 1 clock {}")
        request.tools = [Tool(name: "clock", description: "") { _ in await ignoringCancellation() }]
        let answer = client.chat(request)
        let reading = Task { try await failure { for try await _ in answer {} }.status }
        await notes.next()
        try await client.close()
        #expect(try await reading.value == .closed)
        end.finish()
    }

    /// Closures may use their client in any way.
    @Test func closuresCanCloseTheirClientAndCancelTheirStream() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        let alive = Alive()
        do {
            // The stream keeps its tool, and the tool its stream, until the stream's end.
            let (stream, token) = (Notes<Answer>(), alive.token())
            var request = ChatRequest("/client-tools 1 clock {}")
            request.tools = [
                Tool(name: "clock", description: "") { _ in
                    token.use()
                    stream.all.first?.cancel()
                    return "noon"
                }
            ]
            stream.add(client.chat(request))
            #expect(try await failure { for try await _ in stream.all[0] {} }.status == .cancelled)
        }
        try await alive.ends()

        var request = ChatRequest("/client-tools 1 clock {}")
        request.tools = [
            Tool(name: "clock", description: "") { _ in
                try await client.close()
                return "noon"
            }
        ]
        #expect(try await failure { [request] in for try await _ in client.chat(request) {} }.status == .closed)
        #expect(client.state == .ended)
    }

    /// Each write waits on a thread.
    @Test func closingEndsMoreWritesThanThereAreThreads() async throws {
        let enclave = try Enclave(fault: "upload-not-read")
        let client = try await enclave.connect()
        try await withThrowingTaskGroup(of: ConferError.self) { group in
            let (begun, begin) = AsyncStream.makeStream(of: Void.self)
            for _ in 0..<300 {
                group.addTask {
                    let upload = client.extract(Document(filename: "zeros.pdf", .stream(length: 200 << 20)))
                    begin.yield()
                    return try await failure { while true { try await upload.write(Data(count: 2 << 20)) } }
                }
            }
            var waiting = 0
            for await _ in begun {
                waiting += 1
                if waiting == 300 { break }
            }
            try await client.close()
            for try await error in group { #expect([.closed, .stale].contains(error.status), "\(error)") }
        }
    }

    @Test func oddTextsAndNumbersAreSentOrRefused() async throws {
        let enclave = try Enclave()
        let client = try await enclave.connect()
        for odd in ["a\u{0}b", "", "\u{0}", "\u{FFFF}", "e\u{301}", "👩‍👩‍👧‍👦"] {
            #expect(try await text(of: client.chat(ChatRequest(odd))) == (odd.isEmpty ? "You said nothing." : "You said: " + odd))
        }
        var configuration = enclave.configuration
        configuration.token = "a\u{0}b"
        try await refused(.invalidArgument, "token") { [configuration] in _ = try Client(configuration) }
        configuration = enclave.configuration
        configuration.jwksCacheFile = "a\u{0}b"
        try await refused(.invalidArgument, "path") { [configuration] in _ = try Client(configuration) }
        try await refused(.invalidArgument, "token") { try client.setToken("a\u{0}b") }
        try await refused(.invalidArgument, "url") { for try await _ in client.fetch("") {} }
        for duration in [Duration.seconds(-1), .seconds(Int64.max), .nanoseconds(-1), .milliseconds(Int64.min)] {
            configuration = enclave.configuration
            configuration.durations[.connect] = duration
            try await refused(.invalidArgument, "CONFER_DURATION_CONNECT") { [configuration] in _ = try Client(configuration) }
            var request = ChatRequest("x")
            (request.maxToolRounds, request.toolTimeout) = (1, duration)
            try await refused(.invalidArgument, "timeout_ms") { [request] in for try await _ in client.chat(request) {} }
        }
        configuration = enclave.configuration
        configuration.limits[.requests] = .max
        try await refused(.invalidArgument, "CONFER_LIMIT_REQUESTS") { [configuration] in _ = try Client(configuration) }
        var request = ChatRequest("x")
        for number in [Double.nan, .infinity, -.infinity, -1] {
            request.temperature = number
            try await refused(.invalidArgument, "temperature") { [request] in for try await _ in client.chat(request) {} }
        }
        (request.temperature, request.maxTokens) = (nil, .min)
        try await refused(.invalidArgument, "maxTokens") { [request] in for try await _ in client.chat(request) {} }
        let conversation = try Conversation()
        try conversation.truncate(to: -1)
        try conversation.truncate(to: .max)
        for number in [-1, .min, .max] {
            #expect(throws: ConferError.self) { try Library.setWorkers(number) }
        }
        let report = try client.report()
        let policy = try #require(enclave.configuration.policy)
        for date in [Date.distantPast, .distantFuture, Date(timeIntervalSince1970: .nan), Date(timeIntervalSince1970: .infinity)] {
            #expect(throws: ConferError.self) { try Report.verify(evidence: report.evidence, policy: policy, at: date) }
        }
        #expect(try await failure { _ = try await client.embed([], asQueries: true) }.status == .invalidArgument)
        #expect(try await failure { _ = try await client.extract(Document(filename: "", .data(Data()))).collect() }.status == .invalidArgument)
        try await client.close()
    }

    /// A stream works in code for any sequence.
    @Test func streamIsAnAsyncSequence() async throws {
        func count<Events: AsyncSequence>(_ events: Events) async throws -> Int where Events.Element == Event {
            try await events.reduce(0) { count, _ in count + 1 }
        }
        let enclave = try Enclave()
        let client = try await enclave.connect()
        #expect(try await count(client.chat(ChatRequest("/tokens 10 4"))) == 11)
        let tokens = client.chat(ChatRequest("hello there")).compactMap { if case .token(let text) = $0 { text } else { nil } }
        #expect(try await tokens.reduce("", +) == "You said: hello there")
        try await client.close()
    }

    /// The main actor runs other work while a client of it waits for a connection, for a
    /// chat and for its end.
    @MainActor @Test func mainActorIsNeverBlocked() async throws {
        let enclave = try Enclave(fault: "message1-stall")
        let stalled = try Client(enclave.configuration)
        let waiting = Task { @MainActor in
            await #expect { try await stalled.waitUntilConnected() } throws: { ($0 as? ConferError)?.status == .closed }
        }
        let chat = Task { @MainActor in
            await #expect { for try await _ in stalled.chat(ChatRequest("x")) {} } throws: { ($0 as? ConferError)?.status == .closed }
        }
        // If one of them blocked the actor, this could never run.
        for _ in 0..<100 { await Task.yield() }
        #expect(stalled.state == .connecting)
        try await stalled.close()
        await waiting.value
        await chat.value
    }
}
