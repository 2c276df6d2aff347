// Conversations and tools.

import CConfer
import Foundation

/// A history of messages. It exists only in this process: the library stores nothing.
public final class Conversation: Sendable {
    let handle: Handle
    /// The JSON is lent until the next call.
    private let turns = NSLock()

    /// Begins an empty conversation.
    public init() throws { handle = try Handle(free: confer_conversation_free) { confer_conversation_new($0, $1) } }

    /// Parses the result of ``json``.
    public init(json: String) throws {
        handle = try Handle(free: confer_conversation_free) { conversation, error in
            withText(json) { confer_conversation_parse($0, $1, conversation, error) }
        }
    }

    /// The conversation with all messages, so protect it like them.
    public var json: String { turns.withLock { text { confer_conversation_json(handle.pointer, $0) } ?? "" } }

    /// Appends a message. A conversation holds at most 32 MiB.
    public func add(_ role: ChatRequest.Role, _ content: String) throws {
        try set(handle, to: content) { confer_conversation_add_message($0, role.rawValue, $1, $2, $3) }
    }

    /// Drops all messages after the first `count`.
    public func truncate(to count: Int) throws {
        try call { confer_conversation_truncate(handle.pointer, max(count, 0), $0) }
    }

    /// The number of messages.
    public var count: Int { confer_conversation_message_count(handle.pointer) }

    /// The tokens at the last completion, and the maximum. Nil before the first.
    public var contextTokens: (used: Int64, max: Int64?)? {
        var max: Int64 = -1
        let used = confer_conversation_context_tokens(handle.pointer, &max)
        return used < 0 ? nil : (used, max < 0 ? nil : max)
    }
}

/// A tool that the model may call.
public struct Tool: Sendable {
    /// Runs the tool. The arguments are text from the model, which may break the tool's schema
    /// or not be JSON. If it throws, the model receives the error's description as the result, and
    /// continues. When the chat ends first, or after `ChatRequest.toolTimeout`, its task is
    /// cancelled.
    public typealias Function = @Sendable (_ arguments: String) async throws -> String

    /// Unique in a request.
    public var name: String
    /// Explains the tool to the model.
    public var description: String
    /// The JSON Schema of the arguments, an object.
    public var parameters: String
    /// Runs the tool's calls. If nil, the application does: see `ChatRequest.maxToolRounds`.
    public var run: Function?

    /// Makes a tool. Without `run`, the application answers its calls.
    public init(name: String, description: String, parameters: String = #"{"type":"object"}"#, run: Function? = nil) {
        self.name = name
        self.description = description
        self.parameters = parameters
        self.run = run
    }

    func add(to request: Handle) throws {
        try call { error in
            withText(name) { name, nameCount in
                withText(description) { description, descriptionCount in
                    withText(parameters) {
                        confer_chat_request_add_tool(
                            request.pointer, name, nameCount, description, descriptionCount, $0, $1, error)
                    }
                }
            }
        }
    }
}
