// The package's promises for clients: their state and events, tokens and releases, the log.

import Confer
import Foundation
import Testing

/// Returns the first result of `find`.
private func first<Found>(
    in events: EventStream<ClientEvent>, _ find: (ClientEvent) -> Found?
) async throws -> Found {
    for try await event in events {
        if let found = find(event) { return found }
    }
    throw CancellationError()
}

private func connected(_ event: ClientEvent) -> (report: Report, releaseChanged: Bool)? {
    if case .connected(let report, let releaseChanged) = event { (report, releaseChanged) } else { nil }
}

private func tokenQuestion(_ event: ClientEvent) -> TokenQuestion? {
    if case .askToken(let question) = event { question } else { nil }
}

extension Enclave {
    /// A configuration that asks for the token through events.
    var asking: Configuration {
        var asking = configuration
        asking.token = nil
        asking.asks = .token
        return asking
    }

    /// A configuration that reconnects quickly.
    var reconnecting: Configuration {
        var reconnecting = configuration
        reconnecting.limits[.attempts] = 1_000_000
        (reconnecting.durations[.firstRetry], reconnecting.durations[.longestRetry]) = (.milliseconds(10), .milliseconds(10))
        return reconnecting
    }
}

extension Promises {
    @Test func clientStartsAtOnceAndReportsItsEvents() async throws {
        let enclave = try Enclave()
        let client = try Client(enclave.asking)
        #expect(client.state == .connecting && !client.isConnected)
        #expect(try await failure { _ = try client.report() }.status == .notConnected)
        let (early, events) = (client.chat(ChatRequest("early")), client.events)
        let question = try await first(in: events, tokenQuestion)
        #expect(question.reason == .first)
        #expect(try await failure { try question.answer("a b") }.status == .invalidArgument)
        try question.answer(try #require(enclave.configuration.token))
        #expect(try await failure { try question.refuse("too late") }.status == .stale)

        var stages: [Stage] = []
        var isAnswered = false
        let report = try await first(in: events) { event in
            if case .stage(let stage) = event { stages.append(stage) }
            if case .answered = event { isAnswered = true }
            return connected(event)?.report
        }
        #expect(isAnswered && report.isVerified && stages.last == .verify)
        #expect(stages.map(\.rawValue) == stages.map(\.rawValue).sorted())
        #expect(try await text(of: early) == "You said: early")
        try await client.waitUntilConnected()
        #expect(client.state == .connected && events.dropped == 0)

        // A late stream begins with the state.
        let late = client.events
        #expect(try await first(in: late, connected).releaseChanged == false)
        try await client.close()
        for try await _ in late {}
        for try await _ in events {}
        #expect(client.state == .ended)
        #expect(try await failure { try await client.waitUntilConnected() }.status == .closed)
        #expect(try await failure { for try await _ in client.events {} }.status == .closed)
        // A kept report outlives its client.
        #expect(report.evidence.hasPrefix("{"))
    }

    @Test func refusedTokenEndsTheClientWithItsReason() async throws {
        let enclave = try Enclave()
        let client = try Client(enclave.asking)
        let (waiting, events) = (client.chat(ChatRequest("never sent")), client.events)
        try await first(in: events, tokenQuestion).refuse("signed out")
        for read in [
            { for try await _ in events {} }, { _ = try await text(of: waiting) }, { try await client.waitUntilConnected() },
            { try client.check() },
        ] as [() async throws -> Void] {
            let error = try await failure(read)
            #expect(error.status == .token && error.message.contains("signed out"))
        }
    }

    @Test func freshTokenAnswersTheQuestionAndCancelsTheProvider() async throws {
        let enclave = try Enclave()
        let (told, tell) = AsyncStream.makeStream(of: String.self)
        var configuration = enclave.configuration
        configuration.token = nil
        configuration.tokenProvider = { _ in
            tell.yield("asked")
            do {
                try await Task.sleep(for: .seconds(3600))
            } catch {
                tell.yield("cancelled")
                throw error
            }
            return ""
        }
        let client = try Client(configuration)
        var notes = told.makeAsyncIterator()
        #expect(await notes.next() == "asked")
        try client.setToken(try #require(enclave.configuration.token))
        #expect(await notes.next() == "cancelled")
        try await client.waitUntilConnected()
        #expect(try await failure { try client.setToken("") }.status == .invalidArgument)
        try await client.close()
    }

    @Test func closingCancelsTheProviderAndMakesTheQuestionStale() async throws {
        let enclave = try Enclave()
        let (told, tell) = AsyncStream.makeStream(of: String.self)
        var configuration = enclave.asking
        configuration.tokenProvider = { _ in
            tell.yield("asked")
            defer { tell.yield("over") }
            try await Task.sleep(for: .seconds(3600))
            return ""
        }
        let client = try Client(configuration)
        let question = try await first(in: client.events, tokenQuestion)
        var notes = told.makeAsyncIterator()
        #expect(await notes.next() == "asked")
        try await client.close()
        #expect(await notes.next() == "over")
        #expect(try await failure { try question.answer("late") }.status == .stale)
    }

    @Test func stoppedWaitDoesNotEndTheClient() async throws {
        let enclave = try Enclave()
        let client = try Client(enclave.asking)
        let waiting = Task { try await client.waitUntilConnected() }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        let events = client.events
        events.cancel()
        #expect(try await failure { for try await _ in events {} }.status == .cancelled)
        try client.setToken(try #require(enclave.configuration.token))
        try await client.waitUntilConnected()
        try await client.close()
    }

    @Test func eventsDoNotKeepTheirClient() async throws {
        let enclave = try Enclave()
        var client = try await enclave.connect() as Client?
        let events = try #require(client).events
        _ = try await first(in: events, connected)
        client = nil
        for try await _ in events {}
    }

    @Test func lostConnectionIsReportedUntilItIsReplaced() async throws {
        let enclave = try Enclave()
        let client = try await Client.connect(enclave.reconnecting)
        let events = client.events
        _ = try await first(in: events, connected)
        enclave.stop()
        let lost = try await first(in: events) { if case .disconnected(let error) = $0 { error } else { nil } }
        #expect(lost.status == .connectionLost && lost.isRetryable)
        // The end of a process may close its connections before its listener, so first attempts can
        // still be accepted, and lost.
        let failed = try await first(in: events) { event -> ConferError? in
            guard case .retry(let attempt, let delay, let error) = event else { return nil }
            #expect((error == nil) == (attempt == 1) && delay >= .zero)
            return error?.status == .connectionLost ? nil : error
        }
        #expect(failed.status == .connect && client.state == .reconnecting)
        let again = try enclave.restarted()
        #expect(try await first(in: events, connected).releaseChanged == false)
        try await client.close()
        again.stop()
    }

    @Test func otherReleaseNeedsItsDecision() async throws {
        for accept in [true, false] {
            let enclave = try Enclave()
            let versions = Notes<String?>()
            var configuration = enclave.reconnecting
            configuration.releaseDecision = { previous, now in
                await Task.yield()
                #expect(previous.content.manifestSha256 != now.content.manifestSha256)
                versions.add(now.content.release.imageVersion)
                return accept
            }
            let client = try await Client.connect(configuration)
            let events = client.events
            _ = try await first(in: events, connected)
            let again = try enclave.restarted("--release", "9.9.9")
            if accept {
                #expect(try await first(in: events, connected).releaseChanged == true)
                #expect(try await text(of: client.chat(ChatRequest("again"))) == "You said: again")
            } else {
                let refused = try await failure { for try await _ in events {} }
                #expect(refused.status == .releaseRefused)
                #expect(try await failure { try client.check() }.status == .releaseRefused)
            }
            #expect(versions.all == ["9.9.9"])
            try await client.close()
            again.stop()
        }
    }

    @Test func releaseQuestionIsAnEventToo() async throws {
        let enclave = try Enclave()
        var configuration = enclave.reconnecting
        configuration.asks = .release
        let client = try await Client.connect(configuration)
        let events = client.events
        _ = try await first(in: events, connected)
        let again = try enclave.restarted("--release", "9.9.9")
        let question = try await first(in: events) { if case .askRelease(let question) = $0 { question } else { nil } }
        #expect(question.previous.isVerified && question.now.content.release.imageVersion == "9.9.9")
        try question.answer(accept: true)
        #expect(try await failure { try question.answer(accept: false) }.status == .stale)
        #expect(try await first(in: events, connected).releaseChanged == true)
        try await client.close()
        again.stop()
    }

    @Test func logGoesToTheClosureWithoutSecrets() async throws {
        let enclave = try Enclave()
        let records = Notes<String>()
        var configuration = enclave.configuration
        configuration.log = { level, target, message in
            #expect(target.hasPrefix("confer"))
            records.add("\(level) \(message)")
        }
        configuration.logLevel = .debug
        #expect(throws: ConferError.self) { try Library.setWorkers(0) }
        #expect(throws: ConferError.self) { try Library.setUnreadLimit(1) }
        #expect(Library.version.split(separator: ".").count == 3)
        let client = try await Client.connect(configuration)
        #expect(try await text(of: client.chat(ChatRequest("s3cret"))) == "You said: s3cret")
        while !records.all.contains(where: { $0.hasPrefix("info") }) { await Task.yield() }
        #expect(try await !Library.waitForThreads(timeout: .zero))
        try await client.close()
        let token = try #require(configuration.token)
        #expect(records.all.contains { $0.hasPrefix("debug") })
        #expect(!records.all.contains { $0.contains("s3cret") || $0.contains(token) })
    }
}
