//! Compiles `proto/confer.proto` to Rust with protox, so that no `protoc` has to be installed.
//! Writes only to `OUT_DIR`; `make header` regenerates the C header.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/confer.proto");
    println!("cargo::rerun-if-changed=build.rs");

    let descriptors = protox::compile(["proto/confer.proto"], ["proto"])?;
    prost_build::Config::new()
        // Bodies and payloads are views of the decrypted message. `Vec` would copy it.
        .bytes([
            ".confer.NoiseTransportFrame.payload",
            ".confer.StreamChunk.data",
            ".confer.WebsocketRequest.body",
            ".confer.WebsocketResponse.body",
        ])
        .skip_debug(["."]) // `wire` has `Debug` formats without prompts and answers
        .compile_fds(descriptors)?;

    warn_of_slow_cryptography();

    // The SONAME that c-api.md fixes; additions keep it.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libconfer.so.0");
    }
    Ok(())
}

/// Warns when aws-lc is built with its defaults, which cost each process 35 to 55 ms and much of
/// its speed. `.cargo/config.toml` sets both variables here; a crate that depends on this one sets
/// them in its own.
fn warn_of_slow_cryptography() {
    for (name, wanted) in [
        ("AWS_LC_SYS_NO_JITTER_ENTROPY", "1"),
        ("AWS_LC_SYS_SMALL", "0"),
    ] {
        println!("cargo::rerun-if-env-changed={name}");
        if std::env::var(name).as_deref() != Ok(wanted) {
            println!(
                "cargo::warning={name} is not {wanted}: libconfer will be slower; see README, \"Build settings\""
            );
        }
    }
}
