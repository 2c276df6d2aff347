// Chat requests, and the events of an answer.

import CConfer
import Foundation

/// A chat request.
public struct ChatRequest: Sendable {
    public enum Role: Int32, Sendable, CaseIterable {
        case user = 0
        case assistant = 1
        case system = 2
        case developer = 3
        /// The content is JSON text with `toolCallId`, `toolName` and `toolArguments`.
        case toolCall = 4
        /// The content is JSON text with `toolCallId`, `toolName` and `content`.
        case toolResponse = 5
    }

    public enum Message: Sendable {
        case text(Role, String)
        /// A JSON object that is sent unchanged, such as a message with `imageRefs`.
        case json(String)
    }

    public var messages: [Message]
    /// Default: the service's model.
    public var model: String?
    /// Allows the enclave to send search queries, made from the conversation, to an external search
    /// service.
    public var allowsWebSearch = false
    /// Requests the answer in pieces, `Event.body`, instead of events. Runs no tools and continues
    /// no conversation.
    public var isWhole = false

    // A property that is nil has the server's default. Values outside the bounds of newer servers
    // throw `.invalidArgument`.

    /// Randomness of the choice: 0 or more.
    public var temperature: Double?
    /// Samples from tokens with this share of the probability: above 0, up to 1.
    public var topP: Double?
    /// Least probability of a token, relative to the likeliest: 0 to 1.
    public var minP: Double?
    /// Samples from this many most likely tokens: 1 or more, or -1 for all.
    public var topK: Int32?
    /// Penalty for a token that has occurred: -2 to 2.
    public var presencePenalty: Double?
    /// Penalty for each occurrence of a token: -2 to 2.
    public var frequencyPenalty: Double?
    /// Divides the weight of a token that has occurred: above 0.
    public var repetitionPenalty: Double?
    /// Most tokens of the answer: 1 or more.
    public var maxTokens: Int64?
    /// The answer must be JSON.
    public var json: Bool?
    /// The model reasons before it answers, in `Event.thinking`.
    public var thinking: Bool?

    /// Stored documents for the chat.
    public var documents: [StoredDocument] = []
    /// Tools that the model may call. Those with a function are run, and their results sent with
    /// the next request, until an answer calls no tool. All rounds are one stream, with a
    /// completion at the end of each answer.
    public var tools: [Tool] = []
    /// Number of tool rounds after which the stream fails with `.toolRounds`. Default: 16.
    public var maxToolRounds: UInt32?
    /// Time limit of a tool. After it, the model receives an error. Default: five minutes.
    public var toolTimeout: Duration?
    /// The conversation that this chat continues. Its messages are sent first, and a complete
    /// answer adds the request's messages and the model's. A failed or cancelled answer adds
    /// nothing.
    public var conversation: Conversation?

    /// Further properties, such as those of later servers, each as a JSON value that is sent
    /// unchanged.
    public var properties: [String: String] = [:]

    public init(messages: [Message], model: String? = nil) {
        self.messages = messages
        self.model = model
    }

    /// Makes a request with one message of the user.
    public init(_ prompt: String) { self.init(messages: [.text(.user, prompt)]) }

    func native() throws -> Handle {
        let request = try Handle(free: confer_chat_request_free) { confer_chat_request_new($0, $1) }
        for message in messages {
            try call { error in
                switch message {
                case .text(let role, let content):
                    withText(content) {
                        confer_chat_request_add_message(request.pointer, role.rawValue, $0, $1, error)
                    }
                case .json(let json):
                    withText(json) { confer_chat_request_add_message_json(request.pointer, $0, $1, error) }
                }
            }
        }
        if let model {
            try call { error in withText(model) { confer_chat_request_set_model(request.pointer, $0, $1, error) } }
        }
        try call { confer_chat_request_set_web_search(request.pointer, allowsWebSearch, $0) }
        if isWhole { try call { confer_chat_request_set_stream(request.pointer, false, $0) } }
        func set<Value>(
            _ value: Value?, _ setter: (OpaquePointer?, Value, UnsafeMutablePointer<OpaquePointer?>?) -> confer_status
        ) throws {
            guard let value else { return }
            try call { setter(request.pointer, value, $0) }
        }
        try set(temperature, confer_chat_request_set_temperature)
        try set(topP, confer_chat_request_set_top_p)
        try set(minP, confer_chat_request_set_min_p)
        try set(topK, confer_chat_request_set_top_k)
        try set(presencePenalty, confer_chat_request_set_presence_penalty)
        try set(frequencyPenalty, confer_chat_request_set_frequency_penalty)
        try set(repetitionPenalty, confer_chat_request_set_repetition_penalty)
        try set(maxTokens, confer_chat_request_set_max_tokens)
        try set(json, confer_chat_request_set_json)
        try set(thinking, confer_chat_request_set_thinking)
        for document in documents { try document.add(to: request) }
        for tool in tools { try tool.add(to: request) }
        if maxToolRounds != nil || toolTimeout != nil {
            try call {
                confer_chat_request_set_tool_limits(
                    request.pointer, maxToolRounds ?? 16, toolTimeout?.milliseconds ?? 300_000, $0)
            }
        }
        if let conversation {
            try call { confer_chat_request_set_conversation(request.pointer, conversation.handle.pointer, $0) }
        }
        for (name, json) in properties {
            try call { error in
                withText(name) { name, nameCount in
                    withText(json) {
                        confer_chat_request_set_property(request.pointer, name, nameCount, $0, $1, error)
                    }
                }
            }
        }
        return request
    }
}

/// A document that the service stores. Servers need all fields.
public struct StoredDocument: Sendable, Hashable {
    public var attachmentID: String
    public var filename, contentType: String?
    public var sourceBytes: Int64?
    public var sourceObjectKey: String?
    /// Only for the enclave. Printing a document never shows it.
    public var encryptionKey: String?

    public init(attachmentID: String) { self.attachmentID = attachmentID }

    fileprivate func add(to request: Handle) throws {
        try call { error in
            withText(attachmentID) { id, idCount in
                withText(filename ?? "") { name, nameCount in
                    withText(contentType ?? "") { type, typeCount in
                        withText(sourceObjectKey ?? "") { object, objectCount in
                            withText(encryptionKey ?? "") {
                                confer_chat_request_add_document(
                                    request.pointer, id, idCount, name, nameCount, type, typeCount, sourceBytes ?? -1,
                                    object, objectCount, $0, $1, error)
                            }
                        }
                    }
                }
            }
        }
    }
}

extension StoredDocument: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "StoredDocument(attachmentID: \(attachmentID))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["attachmentID": attachmentID]) }
}

/// One event of an answer.
public enum Event: Sendable, Hashable {
    /// Text to append to the answer.
    case token(String)
    /// Reasoning text.
    case thinking(String)
    /// The server runs one of its tools.
    case toolCall(ToolCall)
    /// The result of the server's tool.
    case toolResponse(ToolResponse)
    /// The application must run this tool and send its result with the next request.
    case clientToolCall(ToolCall)
    /// The end of the answer.
    case completion(Completion)
    /// A piece of an answer that has no events.
    case body(Piece)
    /// More of an upload was sent.
    case progress(Transfer)
    /// The exact JSON of an unknown type.
    case other(json: String)

    public struct ToolCall: Sendable, Hashable {
        public let id, name, arguments: String
    }
    public struct ToolResponse: Sendable, Hashable {
        public let id, name, content: String
        /// For the history, when client tools follow.
        public let fullContent: String?
    }
    public struct Completion: Sendable, Hashable {
        /// The application must run tools and send a new request with their results.
        public let pendingToolCalls: Bool
        public let contextTokens, maxContextTokens: Int64?
    }

    public struct Piece: Sendable, Hashable {
        /// May not be text, and may end inside a character.
        public let content: Data
        /// Bytes received so far, with this piece, and the total.
        public let received: Int64
        public let total: Int64?
    }
    public struct Transfer: Sendable, Hashable {
        /// Bytes of the document sent so far, and the total.
        public let sent: Int64
        public let total: Int64?
    }

    /// Copies an event, which is lent until the next one.
    init(_ event: OpaquePointer) {
        typealias Getter = (OpaquePointer?, UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>?
        func read(_ getter: Getter) -> String { text { getter(event, $0) } ?? "" }
        func toolCall() -> ToolCall {
            ToolCall(
                id: read(confer_event_tool_call_id), name: read(confer_event_tool_name),
                arguments: read(confer_event_tool_arguments))
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
        self =
            switch confer_event_type(event) {
            case CONFER_EVENT_TOKEN: .token(read(confer_event_content))
            case CONFER_EVENT_THINKING: .thinking(read(confer_event_content))
            case CONFER_EVENT_SERVER_TOOL_CALL: .toolCall(toolCall())
            case CONFER_EVENT_SERVER_TOOL_RESPONSE:
                .toolResponse(
                    ToolResponse(
                        id: read(confer_event_tool_call_id), name: read(confer_event_tool_name),
                        content: read(confer_event_content), fullContent: text { confer_event_full_content(event, $0) }))
            case CONFER_EVENT_CLIENT_TOOL_CALL: .clientToolCall(toolCall())
            case CONFER_EVENT_COMPLETION:
                .completion(
                    Completion(
                        pendingToolCalls: confer_event_pending_tool_calls(event),
                        contextTokens: known(confer_event_context_tokens(event)),
                        maxContextTokens: known(confer_event_max_context_tokens(event))))
            case CONFER_EVENT_BODY: .body(piece())
            case CONFER_EVENT_PROGRESS: .progress(transfer())
            default: .other(json: read(confer_event_json))
            }
    }
}
