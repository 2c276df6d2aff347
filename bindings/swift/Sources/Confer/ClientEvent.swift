// The events of a client, its questions, and the closures that answer them.

import CConfer

/// A stage of connecting.
public enum Stage: Int32, Sendable, CaseIterable {
    /// Looking up the host name of the endpoint or the proxy.
    case resolve = 0
    /// Connecting by TCP, over all addresses of the name.
    case tcp = 1
    /// Negotiating TLS.
    case tls = 2
    /// Upgrading to a WebSocket.
    case upgrade = 3
    /// Messages 1 and 2 of the Noise handshake.
    case handshake = 4
    /// Finding or fetching Intel's key set.
    case keySet = 5
    /// Verifying the evidence and sending message 3.
    case verify = 6
    /// Opening a tunnel through the proxy.
    case proxy = 7
    /// All stages together, for times.
    case all = 100
}

/// Why a client needs a token.
public enum TokenReason: Int32, Sendable, CaseIterable {
    /// The client has had no connection yet, and needs a token for one.
    case first = 0
    /// Another connection needs a token.
    case reconnect = 1
    /// The token in use ends soon.
    case expiring = 2
    /// The server refused the last token for good.
    case refused = 3
}

/// What happens to a client.
public enum ClientEvent: Sendable {
    /// A stage of connecting began.
    case stage(Stage)
    /// A verified connection serves. `releaseChanged`: the release has changed since the previous
    /// connection of this stream, also if it has changed back.
    case connected(Report, releaseChanged: Bool)
    /// The connection broke, and the client makes another one.
    case disconnected(ConferError)
    /// The next attempt comes after a delay. `error` is that of the failed attempt before, or nil
    /// after a lost connection.
    case retry(attempt: UInt32, delay: Duration, error: ConferError?)
    /// The client needs a token: see `Configuration.asks`.
    case askToken(TokenQuestion)
    /// The enclave has another release: see `Configuration.asks`.
    case askRelease(ReleaseQuestion)
    /// The open question is over: it was answered, or nobody needs the answer any more.
    case answered
    /// An event of a later version, with its number.
    case other(type: Int32)

    /// Copies an event, which is lent.
    init(_ event: OpaquePointer) throws {
        func error() -> ConferError? {
            confer_event_error(event).map { ConferError(confer_error_status($0), lent: $0) }
        }
        switch confer_event_type(event) {
        case CONFER_EVENT_STAGE:
            self = Stage(rawValue: confer_event_stage(event)).map { .stage($0) } ?? .other(type: CONFER_EVENT_STAGE)
        case CONFER_EVENT_CONNECTED:
            let changed = confer_event_release_changed(event)
            self = .connected(try Report(lent: confer_event_report(event)!), releaseChanged: changed)
        case CONFER_EVENT_DISCONNECTED: self = .disconnected(error()!)
        case CONFER_EVENT_RETRY:
            let delay = Duration.milliseconds(confer_event_delay_ms(event))
            self = .retry(attempt: confer_event_attempt(event), delay: delay, error: error())
        case CONFER_EVENT_ASK_TOKEN: self = .askToken(TokenQuestion(event))
        case CONFER_EVENT_ASK_RELEASE: self = .askRelease(try ReleaseQuestion(event))
        case CONFER_EVENT_ANSWERED: self = .answered
        case let type: self = .other(type: type)
        }
    }
}

/// The client needs a token: see `Configuration.asks`. The first answer wins. An answer to a
/// question that is over throws `.stale` and changes nothing.
public struct TokenQuestion: Sendable {
    /// Why the client needs it.
    public let reason: TokenReason
    private let event: Handle

    fileprivate init(_ event: OpaquePointer) {
        reason = TokenReason(rawValue: confer_event_token_reason(event)) ?? .reconnect
        self.event = Handle(confer_event_clone(event), free: confer_event_free)
    }

    /// Answers with a token. After an invalid one, the question stays open.
    public func answer(_ token: String) throws {
        try set(event, to: token, confer_event_answer_token)
    }

    /// Gives no token. The reason becomes part of errors and of the log, so it must not contain a
    /// secret.
    public func refuse(_ reason: String) throws {
        try set(event, to: reason, confer_event_refuse_token)
    }
}

/// The enclave satisfies the policy, but its release differs from the previous one. The first
/// answer wins. An answer to a question that is over throws `.stale` and changes nothing.
public struct ReleaseQuestion: Sendable {
    /// The reports of the last connection and of the enclave that the question is about.
    public let previous, now: Report
    private let event: Handle

    fileprivate init(_ event: OpaquePointer) throws {
        previous = try Report(lent: confer_event_previous_report(event)!)
        now = try Report(lent: confer_event_report(event)!)
        self.event = Handle(confer_event_clone(event), free: confer_event_free)
    }

    /// Accepts only this release, or ends the client with `.releaseRefused`.
    public func answer(accept: Bool) throws {
        try call { confer_event_answer_release(event.pointer, accept, $0) }
    }
}

/// Answers a client's questions with the configuration's closures.
struct Answering: Sendable {
    let token: Configuration.TokenProvider?
    let release: Configuration.ReleaseDecision?
    private let tasks = Tasks()

    init(_ configuration: Configuration) {
        token = configuration.tokenProvider
        release = configuration.releaseDecision
    }

    func begin(_ client: Handle) throws {
        guard token != nil || release != nil else { return }
        var callbacks = confer_stream_callbacks()
        callbacks.size = MemoryLayout<confer_stream_callbacks>.size
        callbacks.user_data = Box.retained(self)
        callbacks.on_event = { data, _, event in
            Box<Answering>.value(data).take(event!)
            return 0
        }
        callbacks.on_done = { data, _, _, _ in Box<Answering>.value(data).tasks.end() }
        callbacks.destroy = { Box<Answering>.release($0) }
        try call { confer_client_watch(client.pointer, &callbacks, nil, $0) }
    }

    /// Returns at once, so that the callback thread is not blocked. A task answers later. (A report
    /// that cannot be read is never accepted.)
    private func take(_ event: OpaquePointer) {
        switch try? ClientEvent(event) {
        case .askToken(let question):
            if let token { tasks.start { await Self.answer(question, with: token) } }
        case .askRelease(let question):
            if let release {
                tasks.start { try? question.answer(accept: await release(question.previous, question.now)) }
            }
        case .answered: tasks.cancel()
        default: break
        }
    }

    private static func answer(_ question: TokenQuestion, with provider: Configuration.TokenProvider) async {
        let token: String
        do {
            token = try await provider(question.reason)
        } catch {
            try? question.refuse("\(type(of: error))")
            return
        }
        do {
            try question.answer(token)
        } catch {
            // The message describes the flaw without repeating the token.
            try? question.refuse((error as? ConferError)?.message ?? "")
        }
    }
}
