//! Compiles the schema, the one thing that this workspace shares with the library.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto/confer.proto");
    let schema = protox::compile(["confer.proto"], ["../../proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(schema)?;
    Ok(())
}
