//! The first connection of a process: loads the shipped library, connects once and verifies.
//!
//! Each round is a new process, which this program starts from itself.

use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::time::Instant;

use crate::connect::{Trust, establish};
use crate::harness::{Enclave, name};
use crate::measure::{median, percentile};
use crate::primitives::Primitives;
use crate::table::{Aim, Table};

/// The argument that makes this program connect once and print how long that took.
pub const CHILD: &str = "first-connection-child";
const ROUNDS: usize = 25;
const MICROS_PER_MS: f64 = 1e3;

pub fn run(enclave: &Enclave, table: &mut Table) {
    let library = shipped();
    if !library.exists() {
        let what = "libconfer.so is not built: run `make lib`";
        return table.note(what, String::new(), String::new());
    }
    let runtime = crate::bare::runtime();
    let trust = Trust::load(enclave, &runtime);
    let primitives =
        Primitives::new(establish(enclave, &runtime, &trust.verifier(), &trust.keys).evidence);
    let (mut whole, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        whole.push(in_a_new_process(enclave, &library) / MICROS_PER_MS);
        limit.push(primitives.sums().1 / MICROS_PER_MS);
    }
    let (figure, limit) = (median(&whole), median(&limit));
    table.row(
        "first connection of a process, library load included",
        format!("{figure:.2} ms"),
        format!("{limit:.2} ms"),
        figure,
        "ms",
        Aim::AtMost(5.0),
    );
    let worst = percentile(&whole, 0.95);
    table.note("of these, p95", format!("{worst:.2} ms"), String::new());
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("build/lib/libconfer.so")
}

/// Microseconds of wall-clock time.
fn in_a_new_process(enclave: &Enclave, library: &Path) -> f64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(CHILD)
        .arg(library)
        .args([&enclave.url, &enclave.token, &enclave.policy])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

type NewFn = unsafe extern "C" fn(*mut *mut c_void, *mut c_void) -> i32;
type TextFn = unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut c_void) -> i32;
type LoadFn = unsafe extern "C" fn(*const c_char, usize, *mut *mut c_void, *mut c_void) -> i32;
type SetFn = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> i32;
type ConnectFn = unsafe extern "C" fn(*const c_void, *mut *mut c_void, *mut c_void) -> i32;

/// The child's work: `arguments` are the library, URL, token and policy file.
pub fn child(arguments: &[String]) {
    let [library, url, token, policy] = arguments else {
        panic!("{CHILD} LIBRARY URL TOKEN POLICY");
    };
    let library = CString::new(library.as_str()).unwrap();
    let started = Instant::now();
    // SAFETY: the types are those of include/confer.h, and all texts outlive their calls.
    unsafe {
        let loaded = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!loaded.is_null(), "the library loads");
        macro_rules! function {
            ($name:literal as $type:ty) => {{
                let symbol = libc::dlsym(loaded, concat!($name, "\0").as_ptr().cast());
                assert!(!symbol.is_null(), $name);
                std::mem::transmute::<*mut c_void, $type>(symbol)
            }};
        }
        let check = |what: &str, status: i32| assert_eq!(status, 0, "{what}: {}", name(status));
        let none = ptr::null_mut();
        let (mut config, mut trusted, mut client) = (none, none, none);
        let new = function!("confer_config_new" as NewFn);
        check("config", new(&raw mut config, none));
        for (set, text) in [
            (function!("confer_config_set_endpoint" as TextFn), url),
            (function!("confer_config_set_token" as TextFn), token),
        ] {
            let status = set(config, text.as_ptr().cast(), text.len(), none);
            check("setting", status);
        }
        let load = function!("confer_policy_load" as LoadFn);
        let status = load(policy.as_ptr().cast(), policy.len(), &raw mut trusted, none);
        check("policy", status);
        let set = function!("confer_config_set_policy" as SetFn);
        check("policy", set(config, trusted, none));
        let connect = function!("confer_connect" as ConnectFn);
        let status = connect(config, &raw mut client, none);
        check("connect", status);
    }
    println!("{}", started.elapsed().as_secs_f64() * 1e6);
    std::process::exit(0); // the connection goes with the process
}
