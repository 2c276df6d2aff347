// swift-tools-version: 6.0
import PackageDescription

// On a Mac, which builds for all of Apple's systems, libconfer is the XCFramework of a release, or of
// `make xcframework` in a checkout, in this folder. Elsewhere it is the installed one, found through
// pkg-config, or with -Xcc -I and -Xlinker -L. CONFER_XCFRAMEWORK=1 chooses the XCFramework anywhere.
#if os(macOS)
let usesXCFramework = true
#else
let usesXCFramework = Context.environment["CONFER_XCFRAMEWORK"] == "1"
#endif
let library: Target =
    usesXCFramework
    ? .binaryTarget(name: "CConfer", path: "Confer.xcframework")
    : .systemLibrary(name: "CConfer", pkgConfig: "confer")

let package = Package(
    name: "Confer",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [.library(name: "Confer", targets: ["Confer"])],
    targets: [
        library,
        .target(name: "Confer", dependencies: ["CConfer"]),
        .executableTarget(name: "ConferChat", dependencies: ["Confer"]),
        .testTarget(name: "ConferTests", dependencies: ["Confer"]),
    ],
    swiftLanguageModes: [.v6]
)
