// A local enclave for a test, a separate process that ends with its stdin.

import Confer
import Foundation
import Testing

/// One task uses the process.
final class Enclave: @unchecked Sendable {
    let configuration: Configuration
    private let process: Process
    private let stdin: Pipe

    convenience init(fault: String = "none", options: String...) throws {
        try self.init(["--fault", fault] + options)
    }

    /// Ends this enclave, and starts another one with its port, token and keys.
    func restarted(_ options: String...) throws -> Enclave {
        stop()
        let port = try #require(URLComponents(string: configuration.endpoint ?? "")?.port)
        return try Enclave(["--port", "\(port)", "--token", configuration.token ?? ""] + options)
    }

    /// CONFER_ENCLAVE is the program, CONFER_ENCLAVE_STATE a folder for the enclaves' trust world.
    private init(_ options: [String]) throws {
        struct Started: Decodable { let url, token, policy: String }
        let environment = ProcessInfo.processInfo.environment
        let program = try #require(environment["CONFER_ENCLAVE"], "run test.sh")
        let state = try #require(environment["CONFER_ENCLAVE_STATE"], "run test.sh")
        let (process, stdin, stdout) = (Process(), Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["--exit-with-stdin", "--state", state] + options
        process.standardInput = stdin
        process.standardOutput = stdout
        try process.run()
        var line = Data()
        while let byte = try stdout.fileHandleForReading.read(upToCount: 1), !byte.isEmpty, byte != Data("\n".utf8) {
            line += byte
        }
        let started = try JSONDecoder().decode(Started.self, from: line)
        (self.process, self.stdin) = (process, stdin)
        configuration = Configuration(
            token: started.token, endpoint: started.url, policy: try Policy(contentsOfFile: started.policy))
    }

    deinit { stop() }

    func stop() {
        try? stdin.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// Ends the enclave. False if a client left its script.
    func succeeds() -> Bool {
        stop()
        return process.terminationStatus == 0
    }

    func connect() async throws -> Client { try await Client.connect(configuration) }
}

/// Returns the text of an answer.
func text(of answer: Answer) async throws -> String {
    var text = ""
    for try await event in answer {
        if case .token(let token) = event { text += token }
    }
    return text
}

/// Checks that a call fails, and that its message begins with the name of the argument.
func refused(_ status: Status, _ argument: String, _ call: () async throws -> Void) async throws {
    let error = try await failure(call)
    #expect(error.status == status && error.message.hasPrefix(argument + ": "), "\(argument): \(error)")
}

/// Returns the error of a failing call.
func failure(_ call: () async throws -> Void) async throws -> ConferError {
    do {
        try await call()
    } catch let error as ConferError {
        return error
    }
    return try #require(nil as ConferError?, "it did not fail")
}
