// The events of an answer.

import CConfer
import Foundation

/// One event of an answer. Printing it shows only its kind, because printed values end in logs:
/// match it to print its content.
public enum Event: Sendable, Hashable {
    /// Text to append to the answer.
    case token(String)
    /// Reasoning text.
    case thinking(String)
    /// The server runs one of its tools.
    case toolCall(ToolCall)
    /// The result of the server's tool.
    case toolResponse(ToolResponse)
    /// The model calls a tool of the application: see `ChatRequest.maxToolRounds`.
    case clientToolCall(ToolCall)
    /// The end of an answer of the model, and of the stream, unless a round of tools follows: see
    /// `ChatRequest.maxToolRounds`.
    case completion(Completion)
    /// A piece of an answer that has no events.
    case body(Piece)
    /// More of an upload was sent.
    case progress(Transfer)
    /// A row for each text of ``Client/embed(_:asQueries:)``.
    case embeddings([[Float]])
    /// The answer to ``Client/ping()``.
    case pong(roundTrip: Duration)
    /// The exact JSON of an unknown type.
    case other(json: String)

    /// A call of a tool.
    public struct ToolCall: Sendable, Hashable, Identifiable {
        /// The call's id, the tool's name, and its arguments: text from the model, which need not
        /// be JSON.
        public let id, name, arguments: String
        fileprivate var question: Handle?
        /// Why nobody asks for an answer.
        fileprivate var reason: String

        /// Whether the application must answer. Nobody else does. If it releases the call and its
        /// copies without an answer, the model receives an error. False for a tool of the server,
        /// for a tool that has a function or is not in the request, and without rounds: see
        /// `ChatRequest.maxToolRounds`.
        public var wantsAnswer: Bool { question != nil }

        /// Answers with the tool's result, from any task. An answer after the stream's end is
        /// dropped. A second answer throws `.stale`, and one to a call that wants none
        /// `.invalidArgument`: see ``wantsAnswer``.
        public func answer(_ content: String) throws {
            try set(wanted(), to: content, confer_event_answer_tool)
        }

        /// Answers that the tool failed. The model reads the reason. Throws like ``answer(_:)``.
        public func fail(_ reason: String) throws {
            try set(wanted(), to: reason, confer_event_fail_tool)
        }

        private func wanted() throws -> Handle {
            if let question { return question }
            throw ConferError(.invalidArgument, "this call wants no answer: \(reason)")
        }
    }
    /// The result of a server's tool.
    public struct ToolResponse: Sendable, Hashable {
        /// The call's id, the tool's name, and its result, which may be shortened.
        public let id, name, content: String
        /// The whole result. Put it into the history if calls of client tools follow.
        public let fullContent: String?
    }
    /// The end of an answer of the model.
    public struct Completion: Sendable, Hashable {
        /// Whether the answer calls tools of the application. With rounds, the stream continues
        /// when all calls are answered. Without them, the application sends the results with its
        /// next request. See `ChatRequest.maxToolRounds`.
        public let pendingToolCalls: Bool
        /// Tokens of the context that the chat uses, and the maximum. Nil if the server did not
        /// say.
        public let contextTokens, maxContextTokens: Int64?
    }

    /// A piece of an answer without events.
    public struct Piece: Sendable, Hashable {
        /// Need not be text, and may end inside a character.
        public let content: Data
        /// Bytes received so far, with this piece.
        public let received: Int64
        /// Bytes of the whole answer, if known.
        public let total: Int64?
    }
    /// The progress of an upload.
    public struct Transfer: Sendable, Hashable {
        /// Bytes of the document sent so far.
        public let sent: Int64
        /// Bytes of the document, if known.
        public let total: Int64?
    }

    /// Copies an event, which is lent until the next one. Starts the function of a called tool, and
    /// cancels it after the time limit.
    init(
        _ event: OpaquePointer, running functions: [String: Tool.Function], for limit: Duration, in tasks: Tasks
    ) {
        self.init(event)
        guard case .clientToolCall(var call) = self, call.wantsAnswer, let function = functions[call.name] else { return }
        tasks.start { [call] in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        try call.answer(await function(call.arguments))
                    } catch {
                        try? call.fail("\(error)")
                    }
                }
                group.addTask {
                    // The library answers with the same text at about the same time.
                    guard (try? await Task.sleep(for: limit)) != nil else { return }
                    try? call.fail("no answer within \(limit.milliseconds) ms")
                }
                await group.next()
                group.cancelAll()
            }
        }
        (call.question, call.reason) = (nil, "its tool has a function")
        self = .clientToolCall(call)
    }

    /// Copies an event, which is lent until the next one.
    init(_ event: OpaquePointer) {
        typealias Getter = (OpaquePointer?, UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>?
        func read(_ getter: Getter) -> String { text { getter(event, $0) } ?? "" }
        func toolCall(_ reason: String) -> ToolCall {
            ToolCall(
                id: read(confer_event_tool_call_id), name: read(confer_event_tool_name),
                arguments: read(confer_event_tool_arguments),
                question: confer_event_wants_answer(event)
                    ? Handle(confer_event_clone(event), free: confer_event_free) : nil, reason: reason)
        }
        func known(_ count: Int64) -> Int64? { count < 0 ? nil : count }
        func piece() -> Piece {
            var (count, total) = (0, Int64(-1))
            let bytes = confer_event_content(event, &count)
            let content = Data(UnsafeRawBufferPointer(start: bytes, count: bytes == nil ? 0 : count))
            let received = confer_event_received(event, &total)
            return Piece(content: content, received: received, total: known(total))
        }
        func transfer() -> Transfer {
            var total: Int64 = -1
            let sent = confer_event_sent(event, &total)
            return Transfer(sent: sent, total: known(total))
        }
        func embeddings() -> [[Float]] {
            var (rows, columns) = (0, 0)
            guard let lent = confer_event_embeddings(event, &rows, &columns) else { return [] }
            return (0..<rows).map { Array(UnsafeBufferPointer(start: lent + $0 * columns, count: columns)) }
        }
        self =
            switch confer_event_type(event) {
            case CONFER_EVENT_TOKEN: .token(read(confer_event_content))
            case CONFER_EVENT_THINKING: .thinking(read(confer_event_content))
            case CONFER_EVENT_SERVER_TOOL_CALL: .toolCall(toolCall("the server runs its tool"))
            case CONFER_EVENT_SERVER_TOOL_RESPONSE:
                .toolResponse(
                    ToolResponse(
                        id: read(confer_event_tool_call_id), name: read(confer_event_tool_name),
                        content: read(confer_event_content), fullContent: text { confer_event_full_content(event, $0) }))
            case CONFER_EVENT_CLIENT_TOOL_CALL:
                .clientToolCall(toolCall("its tool is not in the request, or maxToolRounds is not set"))
            case CONFER_EVENT_COMPLETION:
                .completion(
                    Completion(
                        pendingToolCalls: confer_event_pending_tool_calls(event),
                        contextTokens: known(confer_event_context_tokens(event)),
                        maxContextTokens: known(confer_event_max_context_tokens(event))))
            case CONFER_EVENT_BODY: .body(piece())
            case CONFER_EVENT_PROGRESS: .progress(transfer())
            case CONFER_EVENT_EMBEDDINGS: .embeddings(embeddings())
            case CONFER_EVENT_PONG: .pong(roundTrip: .microseconds(confer_event_round_trip_us(event)))
            default: .other(json: read(confer_event_json))
            }
    }
}
