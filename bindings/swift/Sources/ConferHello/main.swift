import Confer
import Foundation

let token = ProcessInfo.processInfo.environment["CONFER_TOKEN"] ?? ""
let client = try await Client.connect(Configuration(token: token))
for try await event in client.chat(ChatRequest("Hello!")) {
    if case .token(let text) = event { print(text, terminator: "") }
}
print()
try await client.close()
