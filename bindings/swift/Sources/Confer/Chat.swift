// Chats: what is asked, and the events of an answer.

import CConfer

/// A chat request.
public struct ChatRequest: Sendable {
    public enum Role: Int32, Sendable, CaseIterable {
        case user = 0
        case assistant = 1
        case system = 2
        case developer = 3
        /// The content is a JSON text with `toolCallId`, `toolName` and `toolArguments`.
        case toolCall = 4
        /// The content is a JSON text with `toolCallId`, `toolName` and `content`.
        case toolResponse = 5
    }

    public enum Message: Sendable {
        case text(Role, String)
        /// A JSON object that is sent as it is written: a message with `imageRefs`, for instance.
        case json(String)
    }

    public var messages: [Message]
    /// Default: the service's.
    public var model: String?
    /// Whether the enclave may send search queries, which it makes from the conversation, to a search service outside.
    public var allowsWebSearch = false
    /// Further properties, such as "temperature" or "clientTools", each a JSON value that is sent as it is written.
    public var properties: [String: String] = [:]

    public init(messages: [Message], model: String? = nil) {
        self.messages = messages
        self.model = model
    }

    /// One message of the user.
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

/// One event of a streamed answer.
public enum Event: Sendable, Hashable {
    /// Text to append to the answer.
    case token(String)
    /// Reasoning text.
    case thinking(String)
    /// The server runs one of its own tools.
    case toolCall(ToolCall)
    /// That tool's result.
    case toolResponse(ToolResponse)
    /// The application must run this tool and send its result with the next request.
    case clientToolCall(ToolCall)
    /// The end of the answer.
    case completion(Completion)
    /// A type that this version does not know, as it came.
    case other(json: String)

    public struct ToolCall: Sendable, Hashable {
        public let id, name, arguments: String
    }
    public struct ToolResponse: Sendable, Hashable {
        public let id, name, content: String
        /// For the history when client tools follow.
        public let fullContent: String?
    }
    public struct Completion: Sendable, Hashable {
        /// Whether the application has tools to run and to send a new request with their results.
        public let pendingToolCalls: Bool
        public let contextTokens, maxContextTokens: Int64?
    }

    /// Copies an event, which is lent until the next one is taken.
    init(_ event: OpaquePointer) {
        typealias Getter = (OpaquePointer?, UnsafeMutablePointer<Int>?) -> UnsafePointer<CChar>?
        func read(_ getter: Getter) -> String { text { getter(event, $0) } ?? "" }
        func toolCall() -> ToolCall {
            ToolCall(
                id: read(confer_event_tool_call_id), name: read(confer_event_tool_name),
                arguments: read(confer_event_tool_arguments))
        }
        func known(_ count: Int64) -> Int64? { count < 0 ? nil : count }
        self =
            switch confer_event_type(event) {
            case CONFER_EVENT_TOKEN: .token(read(confer_event_content))
            case CONFER_EVENT_THINKING: .thinking(read(confer_event_content))
            case CONFER_EVENT_TOOL_CALL: .toolCall(toolCall())
            case CONFER_EVENT_TOOL_RESPONSE:
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
            default: .other(json: read(confer_event_json))
            }
    }
}
