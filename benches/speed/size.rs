//! The library's size after `make install`.

use std::path::Path;
use std::process::Command;

use crate::harness::scratch;
use crate::table::{Aim, Table};

pub fn run(table: &mut Table) {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/lib/libconfer.so");
    if !library.exists() {
        return table.note(
            "libconfer.so is not built: run `make lib`",
            String::new(),
            String::new(),
        );
    }
    let stripped = scratch().join("stripped");
    let status = Command::new("strip")
        .arg("--strip-unneeded")
        .arg("-o")
        .arg(&stripped)
        .arg(&library)
        .status();
    assert!(status.expect("strip is part of binutils").success());
    let megabytes = std::fs::metadata(&stripped).unwrap().len() as f64 / 1e6;
    table.row(
        "libconfer.so, stripped",
        format!("{megabytes:.2} MB"),
        String::new(),
        megabytes,
        "MB",
        Aim::AtMost(7.0),
    );
}
