//! Checks that every exported function has its guard: parses `src/ffi` and fails for an export
//! whose panic could reach the caller.

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ExprCall, File, Item, ItemFn, Meta, Pat, Stmt};

/// The guards of `src/ffi/support/guard.rs`. Each takes a closure and catches its panics.
const GUARDS: [&str; 5] = ["status", "done", "gives", "get", "quiet"];

/// Calls that may stand before the guard: they must run on every path and cannot panic.
const BEFORE_THE_GUARD: [&str; 4] = [
    "UserData::new",
    "handle::out",
    "handle::out_const",
    "Target::read",
];

/// Fewer exports than this mean that the test looks in the wrong place.
const LEAST_EXPORTS: usize = 50;

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn exports(file: &File) -> Vec<&ItemFn> {
    fn collect<'a>(items: &'a [Item], found: &mut Vec<&'a ItemFn>) {
        for item in items {
            match item {
                Item::Fn(function) if function.attrs.iter().any(is_export) => found.push(function),
                Item::Mod(module) => {
                    if let Some((_, items)) = &module.content {
                        collect(items, found);
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(&file.items, &mut found);
    found
}

/// `#[no_mangle]`, `#[export_name = "…"]`, and both inside `#[unsafe(…)]`.
fn is_export(attribute: &Attribute) -> bool {
    let exporting = |text: &str| text.contains("no_mangle") || text.contains("export_name");
    match &attribute.meta {
        Meta::Path(path) => path.is_ident("no_mangle"),
        Meta::NameValue(pair) => pair.path.is_ident("export_name"),
        Meta::List(list) => list.path.is_ident("unsafe") && exporting(&list.tokens.to_string()),
    }
}

/// Says what is wrong with an export, if anything is.
fn fault(function: &ItemFn) -> Option<&'static str> {
    let abi = function.sig.abi.as_ref().and_then(|abi| abi.name.as_ref());
    if abi.is_none_or(|name| name.value() != "C") {
        return Some("is not extern \"C\"");
    }
    let Some((last, before)) = function.block.stmts.split_last() else {
        return Some("has an empty body");
    };
    if !before.iter().all(may_come_first) {
        return Some("does something before its guard");
    }
    match last {
        Stmt::Expr(Expr::Call(call), _) if is_guard(call) => None,
        _ => Some("does not end with a call of its guard"),
    }
}

fn may_come_first(statement: &Stmt) -> bool {
    match statement {
        Stmt::Item(Item::Const(_)) => true,
        Stmt::Local(local) => {
            let plain = matches!(local.pat, Pat::Ident(_));
            let called = local.init.as_ref().and_then(|init| called(&init.expr));
            plain && called.is_some_and(|name| BEFORE_THE_GUARD.contains(&name.as_str()))
        }
        _ => false,
    }
}

fn is_guard(call: &ExprCall) -> bool {
    let name = path_of(call).unwrap_or_default();
    let guard = name.strip_prefix("guard::");
    let closure = matches!(call.args.last(), Some(Expr::Closure(_)));
    closure && guard.is_some_and(|guard| GUARDS.contains(&guard))
}

/// The function that an expression calls, also inside `unsafe { … }`.
fn called(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Call(call) => path_of(call),
        Expr::Unsafe(block) => match block.block.stmts.as_slice() {
            [Stmt::Expr(inner, None)] => called(inner),
            _ => None,
        },
        _ => None,
    }
}

fn path_of(call: &ExprCall) -> Option<String> {
    let Expr::Path(path) = &*call.func else {
        return None;
    };
    let names = path.path.segments.iter().map(|s| s.ident.to_string());
    Some(names.collect::<Vec<_>>().join("::"))
}

#[test]
fn every_export_is_guarded() {
    let (mut checked, mut faults) = (0, Vec::new());
    for path in sources() {
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        for function in exports(&file) {
            checked += 1;
            if let Some(fault) = fault(function) {
                faults.push(format!(
                    "{}: {} {fault}",
                    path.display(),
                    function.sig.ident
                ));
            }
        }
    }
    assert!(checked >= LEAST_EXPORTS, "found {checked} exports");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rooms that `src/ffi` may import.
const BELOW_FFI: [&str; 6] = ["client", "clock", "error", "ffi", "fork", "panics"];

#[test]
fn ffi_imports_only_client_and_leaves() {
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let (mut imports, mut wrong) = (0, Vec::new());
    for file in sources().iter().filter(|file| file.starts_with(&ffi)) {
        let source = fs::read_to_string(file).unwrap();
        for path in source.split("crate::").skip(1) {
            let rooms = match path.strip_prefix('{') {
                Some(several) => several.split('}').next().unwrap().split(',').collect(),
                None => vec![path],
            };
            for room in rooms {
                let end = |c: char| !c.is_alphanumeric() && c != '_';
                let room = room.trim().split(end).next().unwrap();
                imports += 1;
                if !BELOW_FFI.contains(&room) {
                    wrong.push(format!("{}: {room}", file.display()));
                }
            }
        }
    }
    assert!(imports > 50, "looks in the wrong place");
    assert_eq!(wrong, [""; 0]);
}

/// A thread that first asks aws-lc when the process ends aborts it (`src/host/exit.rs`). So only
/// files that run on workers may ask. An application's thread runs all others.
#[test]
fn only_workers_ask_aws_lc_for_random_numbers() {
    let asking = files_that_contain(&["rand::fill", "rand::System"]);
    let expected = [
        "src/attestation/world.rs", // tests
        "src/host/exit.rs",
        "src/noise/handshake.rs",
        "src/noise/resolver.rs",
    ];
    assert_eq!(asking, expected.map(PathBuf::from));
}

/// Without an approval no message 3 is sent. Only the core of a client's life knows the answer of
/// the application, so only it may grant one.
#[test]
fn only_the_core_grants_approvals() {
    let granting = files_that_contain(&["Approved::grant(", "Approved(())"]);
    let expected = [
        "src/lifecycle/core/connections.rs",
        "src/session/establish.rs", // the definition
    ];
    assert_eq!(granting, expected.map(PathBuf::from));
}

/// Files of `src` whose text before their tests contains one of the words.
fn files_that_contain(words: &[&str]) -> Vec<PathBuf> {
    let contains = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        words.iter().any(|word| shipped.contains(word))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_path_buf();
    let mut found: Vec<_> = sources()
        .into_iter()
        .filter(contains)
        .map(relative)
        .collect();
    found.sort();
    found
}

#[test]
fn unguarded_exports_are_found() {
    let cases = [
        ("guard::get(0, || Some(1))", None),
        ("const A: i32 = 0; guard::done(error, || Ok(()))", None),
        (
            "let out = unsafe { handle::out(out, \"o\") }; guard::gives(error, out, |out| Ok(()))",
            None,
        ),
        ("guard::get(0, work)", Some("guard")),
        ("guard::other(|| ())", Some("guard")),
        ("work(); guard::done(error, || Ok(()))", Some("before")),
        (
            "let n = parse(text); guard::done(error, || Ok(()))",
            Some("before"),
        ),
        ("let x = guard::get(0, || Some(1)); x", Some("before")),
        ("guard::get(0, || Some(1)) + 1", Some("guard")),
        (
            "if x { return 1 } guard::get(0, || Some(1))",
            Some("before"),
        ),
        ("", Some("empty")),
    ];
    for (body, expected) in cases {
        let source = format!("#[unsafe(no_mangle)] pub extern \"C\" fn f() -> i32 {{ {body} }}");
        let file = syn::parse_file(&source).unwrap();
        let found = exports(&file);
        assert_eq!(found.len(), 1, "{body}");
        match (fault(found[0]), expected) {
            (None, None) => {}
            (Some(fault), Some(word)) => assert!(fault.contains(word), "{body}: {fault}"),
            (fault, _) => panic!("{body}: {fault:?}"),
        }
    }
}

#[test]
fn every_way_to_export_is_seen() {
    for attribute in [
        "#[no_mangle]",
        "#[unsafe(no_mangle)]",
        "#[unsafe(export_name = \"g\")]",
    ] {
        let source = format!("mod inner {{ {attribute} pub fn f() {{ guard::quiet(|| ()) }} }}");
        let file = syn::parse_file(&source).unwrap();
        let found = exports(&file);
        assert_eq!(found.len(), 1, "{attribute}");
        assert_eq!(fault(found[0]), Some("is not extern \"C\""));
    }
}
