// Printing a request or an event shows no prompt and no answer: printed values end in logs.

extension Event: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        switch self {
        case .token: "Event.token"
        case .thinking: "Event.thinking"
        case .toolCall: "Event.toolCall"
        case .toolResponse: "Event.toolResponse"
        case .clientToolCall: "Event.clientToolCall"
        case .completion: "Event.completion"
        case .body: "Event.body"
        case .progress: "Event.progress"
        case .embeddings: "Event.embeddings"
        case .pong: "Event.pong"
        case .other: "Event.other"
        }
    }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Event.ToolCall: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "ToolCall(id: \(id), name: \(name))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Event.ToolResponse: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "ToolResponse(id: \(id), name: \(name))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension ChatRequest: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "ChatRequest(model: \(model ?? "default"), messages: \(messages.count))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension ChatRequest.Message: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "Message" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Event.Piece: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "Piece(\(content.count) bytes)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Document: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "Document" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

// Without CustomStringConvertible: `Tool.description` is the text for the model.
extension Tool: CustomDebugStringConvertible, CustomReflectable {
    public var debugDescription: String { "Tool(name: \(name))" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
