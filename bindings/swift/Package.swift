// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "Confer",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [.library(name: "Confer", targets: ["Confer"])],
    targets: [
        // The installed libconfer, found through pkg-config, or with -Xcc -I and -Xlinker -L.
        .systemLibrary(name: "CConfer", pkgConfig: "confer"),
        .target(name: "Confer", dependencies: ["CConfer"]),
        .executableTarget(name: "ConferChat", dependencies: ["Confer"]),
        .testTarget(name: "ConferTests", dependencies: ["Confer"]),
    ],
    swiftLanguageModes: [.v6]
)
