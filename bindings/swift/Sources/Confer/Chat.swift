// Chat requests.

import CConfer
import Foundation

/// A chat request.
public struct ChatRequest: Sendable {
    /// The author of a message.
    public enum Role: Int32, Sendable, CaseIterable {
        /// The person who asks.
        case user = 0
        /// The model.
        case assistant = 1
        /// Instructions of the service.
        case system = 2
        /// Instructions of the application.
        case developer = 3
        /// The content is JSON text with `toolCallId`, `toolName` and `toolArguments`.
        case toolCall = 4
        /// The content is JSON text with `toolCallId`, `toolName` and `content`.
        case toolResponse = 5
    }

    /// A message of the chat.
    public enum Message: Sendable, Hashable {
        /// Text of an author.
        case text(Role, String)
        /// A JSON object that is sent unchanged, such as a message with `imageRefs`.
        case json(String)
    }

    /// The messages, in their order. With a `conversation`, they follow its messages.
    public var messages: [Message]
    /// Default: the service's model.
    public var model: String?
    /// Allows the enclave to send search queries, made from the conversation, to an external search
    /// service.
    public var allowsWebSearch = false
    /// Requests the answer as one `Event.body` instead of events. Runs no tools and continues no
    /// conversation.
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
    /// Tools that the model may call. The package runs those with a function.
    public var tools: [Tool] = []
    /// Number of rounds in which calls of tools are answered on the same stream: each
    /// `Event.clientToolCall` wants an answer, of the tool's function or of the application. All
    /// rounds are one stream, with a completion at the end of each. If the model still calls tools
    /// after them, it fails with `.toolRounds`.
    ///
    /// Default: 16 if a tool has a function. Otherwise the stream ends with the first completion,
    /// and the application sends the results with its next request.
    public var maxToolRounds: UInt32?
    /// Time limit of an answer. After it, the model receives an error, and the task of the tool's
    /// function is cancelled.
    public var toolTimeout = Duration.seconds(300)
    /// The conversation that this chat continues. Its messages are sent first, and a complete
    /// answer adds the request's messages and the model's. A failed or cancelled answer adds
    /// nothing.
    public var conversation: Conversation?

    /// Further properties, such as those of later servers, each as a JSON value that is sent
    /// unchanged.
    public var properties: [String: String] = [:]

    /// Makes a request with these messages.
    public init(messages: [Message], model: String? = nil) {
        self.messages = messages
        self.model = model
    }

    /// Makes a request with one message of the user.
    public init(_ prompt: String) { self.init(messages: [.text(.user, prompt)]) }

    var functions: [String: Tool.Function] {
        Dictionary(tools.compactMap { tool in tool.run.map { (tool.name, $0) } }, uniquingKeysWith: { first, _ in first })
    }

    func native() throws -> Handle {
        let request = try Handle(free: confer_chat_request_free) { confer_chat_request_new($0, $1) }
        for message in messages {
            switch message {
            case .text(let role, let content):
                try Confer.set(request, to: content) {
                    confer_chat_request_add_message($0, role.rawValue, $1, $2, $3)
                }
            case .json(let json): try Confer.set(request, to: json, confer_chat_request_add_message_json)
            }
        }
        if let model { try Confer.set(request, to: model, confer_chat_request_set_model) }
        try call { confer_chat_request_set_web_search(request.pointer, allowsWebSearch, $0) }
        try call { confer_chat_request_set_streaming(request.pointer, !isWhole, $0) }
        func set<Value>(_ value: Value?, _ setter: (OpaquePointer?, Value, ErrorOutput?) -> confer_status) throws {
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
        for document in documents {
            try Confer.set(request, to: document.json, confer_chat_request_add_document_json)
        }
        for tool in tools { try tool.add(to: request) }
        if let rounds = maxToolRounds ?? (functions.isEmpty ? nil : 16) {
            try call { confer_chat_request_set_tool_rounds(request.pointer, rounds, toolTimeout.milliseconds, $0) }
        }
        if let conversation {
            try call { confer_chat_request_set_conversation(request.pointer, conversation.handle.pointer, $0) }
        }
        for (name, json) in properties {
            try Confer.set(request, name, to: json, confer_chat_request_set_property)
        }
        return request
    }
}

/// A document that the service stores, as a JSON object. Servers need `attachmentId`, `filename`,
/// `contentType`, `sourceBytes`, `sourceObjectKey` and `encryptionKey`. The last is only for the
/// enclave: printing a document never shows it.
public struct StoredDocument: Sendable, Hashable {
    /// The document, as the service returned it when it was stored.
    public var json: String

    /// Names a document that the service stores.
    public init(json: String) { self.json = json }
}

extension StoredDocument: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "StoredDocument" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
