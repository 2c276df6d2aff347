// Asks Confer one question: ConferChat [--url URL] [--policy FILE] PROMPT, with the token in
// CONFER_TOKEN. Writes the verification to stderr and the answer to stdout. Exit status: 0
// answered, 2 usage, 3 enclave refused, 1 anything else.

import Confer
import Foundation

@Sendable func note(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

var configuration = Configuration(token: ProcessInfo.processInfo.environment["CONFER_TOKEN"])
var arguments = CommandLine.arguments.dropFirst()
var prompt: String?
do {
    while let argument = arguments.popFirst() {
        switch argument {
        case "--url": configuration.endpoint = arguments.popFirst()
        case "--policy": configuration.policy = try Policy(contentsOfFile: arguments.popFirst() ?? "")
        default: prompt = argument
        }
    }
    guard let prompt else {
        note("usage: ConferChat [--url URL] [--policy FILE] PROMPT")
        exit(2)
    }
    let client = try await Client.connect(configuration)
    note("\(try client.report())")
    for try await event in client.chat(ChatRequest(prompt)) {
        if case .token(let text) = event { FileHandle.standardOutput.write(Data(text.utf8)) }
    }
    print()
    try await client.close()
} catch {
    let report = (error as? ConferError)?.report
    if let report { note("\(report)") }
    note("\(error)")
    exit(report == nil ? 1 : 3)
}
