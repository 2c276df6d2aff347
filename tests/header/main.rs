//! Checks `include/confer.h`: it equals what `write.rs` writes from `src/ffi`, each section has the
//! items of its file, and no number has changed. (`tests/exports.rs` checks that each export is
//! guarded.)
//!
//! `make header` runs this with `CONFER_UPDATE_HEADER=1`, which writes the header instead.

mod write;

use std::collections::BTreeSet;
use std::fs;

use syn::{Item, Visibility};
use write::{SECTIONS, about, banner, file, header as generate, root};

/// The names of a file's public items, and the most parameters of a function.
#[derive(Default)]
struct Source {
    functions: Vec<String>,
    handles: Vec<String>,
    /// Constants, function types, the callback table, `confer_status`.
    others: Vec<String>,
    most_parameters: usize,
}

impl Source {
    fn read(section: &str) -> Source {
        let source = fs::read_to_string(file(section)).unwrap();
        let mut items = Source::default();
        let public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
        for item in syn::parse_file(&source).unwrap().items {
            match item {
                Item::Fn(it) if public(&it.vis) => {
                    items.most_parameters = items.most_parameters.max(it.sig.inputs.len());
                    items.functions.push(it.sig.ident.to_string());
                }
                Item::Const(it) if public(&it.vis) => items.others.push(it.ident.to_string()),
                Item::Type(it) if public(&it.vis) => items.others.push(it.ident.to_string()),
                Item::Struct(it) if public(&it.vis) => {
                    let has_layout = it.attrs.iter().any(|it| it.path().is_ident("repr"));
                    let kind = if has_layout {
                        &mut items.others
                    } else {
                        &mut items.handles
                    };
                    kind.push(it.ident.to_string());
                }
                _ => {}
            }
        }
        items
    }
}

fn sources() -> impl Iterator<Item = Source> {
    SECTIONS.iter().map(|(section, _)| Source::read(section))
}

fn exports() -> BTreeSet<String> {
    sources().flat_map(|source| source.functions).collect()
}

/// Returns the sections of a header. Each banner must occur once.
fn split(header: &str) -> Vec<(&'static str, String)> {
    let mut sections = Vec::new();
    let mut before = header;
    for (section, _) in SECTIONS.into_iter().rev() {
        let parts: Vec<_> = before.split(&banner(section)).collect();
        let [rest, text] = parts[..] else {
            panic!("{} banners of {section}", parts.len() - 1)
        };
        sections.insert(0, (section, text.to_owned()));
        before = rest;
    }
    sections
}

/// Returns the name that a line of a section declares, if any. Comments and arguments start with a
/// space.
fn declared(line: &str) -> Option<&str> {
    let name = if let Some(define) = line.strip_prefix("#define ") {
        define.split(' ').next()?
    } else if line.starts_with([' ', '/', '#']) || line.ends_with("CONFER_API") {
        return None;
    } else if let Some((_, function)) = line.split_once("(*") {
        function.split(')').next()?
    } else {
        line.split(['(', ';']).next()?.rsplit([' ', '*']).next()?
    };
    let is_name = name.starts_with("confer_") || name.starts_with("CONFER_");
    is_name.then_some(name)
}

#[test]
fn committed_header_matches_the_sources() {
    let path = root().join("include/confer.h");
    let header = generate();
    if std::env::var_os("CONFER_UPDATE_HEADER").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, header).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap();
    assert!(
        committed == header,
        "include/confer.h is out of date: run `make header`"
    );
}

#[test]
fn sections_are_the_files_of_ffi() {
    let files = fs::read_dir(root().join("src/ffi")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files
        .filter(|file| file != "mod.rs" && file != "support")
        .collect();
    let sections = SECTIONS.map(|(section, _)| format!("{section}.rs"));
    assert_eq!(files, BTreeSet::from(sections));
}

#[test]
fn each_section_declares_the_items_of_its_file() {
    for (section, text) in split(&generate()) {
        let mut source = Source::read(section);
        source.others.append(&mut source.handles);
        let declared: Vec<_> = text.lines().filter_map(declared).collect();
        let mut others = declared.clone();
        others.retain(|name| !source.functions.iter().any(|function| function == name));
        others.sort();
        source.others.sort();
        assert_eq!(others, source.others, "{section}");
        // In the order of the file, after everything else.
        assert_eq!(declared[others.len()..], source.functions, "{section}");
        assert!(!declared.is_empty(), "{section} declares nothing");
    }
}

#[test]
fn each_section_imports_only_earlier_ones() {
    let mut imports = 0;
    for (at, (section, _)) in SECTIONS.iter().enumerate() {
        let source = fs::read_to_string(file(section)).unwrap();
        let paths = source
            .lines()
            .filter_map(|it| it.strip_prefix("use super::"));
        for module in paths.filter_map(|path| path.split(':').next()) {
            let earlier = SECTIONS[..at].iter().any(|(name, _)| *name == module);
            assert!(earlier || module == "support", "{section} imports {module}");
            imports += 1;
        }
    }
    assert!(imports > 50, "looks in the wrong place");
}

#[test]
fn helpers_of_sections_import_only_types() {
    for entry in fs::read_dir(root().join("src/ffi/support")).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        for module in source.split("crate::ffi::").skip(1) {
            assert!(module.starts_with("types::"), "{}", path.display());
        }
        assert!(!source.contains("super::super"), "{}", path.display());
    }
}

#[test]
fn each_declaration_has_documentation_and_macros() {
    let exports = exports();
    assert!(exports.len() > 50, "exports were found: {}", exports.len());
    for (_, text) in split(&generate()) {
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = declared(line) else { continue };
            let above = match exports.contains(name) {
                true if line.starts_with("confer_status ") => " */\nCONFER_MUST_USE CONFER_API",
                true => " */\nCONFER_API",
                false => " */",
            };
            let is_end_of_struct = line.starts_with('}');
            assert!(
                is_end_of_struct || lines[..at].join("\n").ends_with(above),
                "{name}"
            );
        }
    }
}

#[test]
fn header_stays_within_its_bounds() {
    let header = generate();
    let handles: Vec<_> = sources().flat_map(|source| source.handles).collect();
    assert_eq!(handles.len(), 13, "{handles:?}");
    let callbacks = header
        .lines()
        .filter(|line| line.starts_with("typedef ") && line.contains("(*"));
    let callbacks: Vec<_> = callbacks.filter_map(declared).collect();
    assert_eq!(
        callbacks,
        ["confer_destroy_fn", "confer_log_fn", "confer_read_fn"]
    );
    assert!(sources().all(|source| source.most_parameters <= 8));
}

#[test]
fn table_of_contents_lists_the_sections_in_order() {
    let header = generate();
    let (_, table) = header.split_once(" * CONTENTS\n").unwrap();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with(" * ---"))
        .skip(1);
    let rows: Vec<_> = rows.take_while(|line| *line != " *").collect();
    assert_eq!(rows.len(), SECTIONS.len());
    for (row, (section, text)) in rows.iter().zip(split(&header)) {
        let cells = row.trim_start_matches(" * ").split("  ").map(str::trim);
        let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[..2], [about(section).0, format!("{section}.rs")]);
        for name in cells[2].split(", ") {
            let mut declared = text.lines().filter_map(declared);
            let found =
                declared.any(|it| it == name || name.starts_with('_') && it.ends_with(name));
            assert!(found, "{section} declares no {name}");
        }
    }
}

/// Each export is listed with the version that added it, as in curl's `symbols-in-versions`.
/// `tests/c/test.sh` compares the built library with the same list.
#[test]
fn list_of_symbols_is_complete() {
    let list = fs::read_to_string(root().join("docs/symbols-in-versions")).unwrap();
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let listed: BTreeSet<String> = lines
        .map(|line| {
            let (name, version) = line.split_once(' ').expect("a name and a version");
            assert_eq!(version.trim().split('.').count(), 3, "{line}");
            name.to_owned()
        })
        .collect();
    assert_eq!(listed, exports(), "docs/symbols-in-versions");
}

/// Compiled programs contain the header's numbers and the layout of its callback table, so neither
/// may change. The list is written by hand.
#[test]
fn header_numbers_never_change() {
    let header = generate();
    let list = fs::read_to_string(root().join("docs/numbers-in-versions")).unwrap();
    let listed: BTreeSet<&str> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit_once(' ').expect("a version").0)
        .collect();
    let defined: BTreeSet<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter(|define| define.contains(' ') && !define.starts_with("CONFER_VERSION_"))
        .collect();
    assert_eq!(listed, defined, "docs/numbers-in-versions");

    use confer::ffi::callbacks::confer_stream_callbacks as table;
    let word = size_of::<usize>();
    let members = [
        std::mem::offset_of!(table, size),
        std::mem::offset_of!(table, user_data),
        std::mem::offset_of!(table, on_event),
        std::mem::offset_of!(table, on_done),
        std::mem::offset_of!(table, destroy),
        std::mem::offset_of!(table, on_ready),
    ];
    assert_eq!(members, [0, 1, 2, 3, 4, 5].map(|index| index * word));
}

#[test]
fn header_has_every_status_with_its_number() {
    let header = generate();
    for (status, name, _) in confer::error::Status::ALL {
        let define = format!("#define {name} {}", *status as i32);
        assert!(header.lines().any(|line| line == define), "{define}");
    }
    let defined = header.lines().filter(|line| {
        [
            "#define CONFER_E_",
            "#define CONFER_OK",
            "#define CONFER_TIMEOUT",
            "#define CONFER_END ",
        ]
        .iter()
        .any(|prefix| line.starts_with(prefix))
    });
    assert_eq!(defined.count(), confer::error::Status::ALL.len());
}

#[test]
fn header_contains_no_local_path() {
    let header = generate();
    assert!(!header.contains(env!("CARGO_MANIFEST_DIR")));
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Returns a setting's key, default and bounds, as the documents write them.
fn row(setting: &confer::client::Setting) -> [String; 3] {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let bytes = setting.bounds == confer::session::BOUND_BYTES;
    let write = |value: u64| {
        let unit = UNITS.iter().find(|(shift, _)| value >> shift > 0);
        match unit.filter(|_| bytes) {
            Some((shift, unit)) => format!("{} {unit}", value >> shift),
            None => thousands(value as usize),
        }
    };
    let (least, most) = (write(*setting.bounds.start()), write(*setting.bounds.end()));
    let zero = if setting.zero { ", or 0" } else { "" };
    let bounds = format!("{least} to {most}{zero}");
    [setting.name.into(), write(setting.default()), bounds]
}

/// Returns the first cells of each table row that starts with a setting's key.
fn rows<'a>(text: &'a str, parted_by: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| {
        let line = line.trim_start_matches([' ', '*', '|', '`']);
        let key = line.starts_with("CONFER_DURATION_") || line.starts_with("CONFER_LIMIT_");
        let cells = line
            .split(parted_by)
            .map(|cell| cell.trim_matches([' ', '`']));
        let cells = cells.filter(|cell| !cell.is_empty()).take(3);
        (key && line.contains(parted_by)).then(|| cells.collect())
    };
    text.lines().filter_map(cells).collect()
}

#[test]
fn settings_are_documented_with_key_default_and_bounds() {
    let settings = || {
        use confer::client::{DURATIONS, LIMITS};
        DURATIONS.iter().chain(&LIMITS)
    };
    let expected: Vec<_> = settings().map(row).collect();
    let header = generate();
    let limits = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    assert_eq!(rows(&header, "   "), expected, "the header");
    assert_eq!(rows(&limits, "|"), expected, "docs/limits.md");

    let keys: Vec<_> = settings()
        .map(|setting| format!("#define {} {}", setting.name, setting.key))
        .collect();
    let of_a_setting = |line: &&str| {
        ["#define CONFER_DURATION_", "#define CONFER_LIMIT_"]
            .iter()
            .any(|prefix| line.starts_with(prefix))
    };
    let defined: Vec<_> = header.lines().filter(of_a_setting).collect();
    assert_eq!(defined, keys);
}

#[test]
fn table_of_limits_matches_the_code() {
    use confer::session::{Bounds, Limits, MAX_BODY, MAX_CHUNK, MAX_UPLOADS};
    use confer::{client, noise, wire};
    let header = generate();
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let (limits, bounds) = (Limits::default(), Bounds::default());
    let seconds = |wait: std::time::Duration| format!("{} s", wait.as_secs());
    for limit in limits.stage {
        assert!([10, 15].contains(&limit.as_secs()));
    }
    let rows = [
        ("time of all stages together", seconds(limits.connect)),
        ("silence while a ping is open", seconds(limits.dead_after)),
        ("silence after the network changed", seconds(limits.probe)),
        (
            "silence of an answer that is streamed",
            seconds(limits.idle.events),
        ),
        ("silence of any other answer", seconds(limits.idle.pieces)),
        (
            "WebSocket message",
            thousands(noise::MAX_NOISE_MESSAGE) + " B",
        ),
        ("frames of a message", thousands(wire::MAX_CHUNKS as usize)),
        ("unfinished messages", thousands(wire::MAX_UNFINISHED)),
        ("bytes of unfinished messages", mib(bounds.unfinished)),
        (
            "headers of a response",
            format!(
                "{}, {} KiB",
                wire::MAX_HEADERS,
                wire::MAX_HEADER_BYTES >> 10
            ),
        ),
        (
            "an event, nesting",
            format!("{}, {}", mib(client::MAX_EVENT), client::MAX_EVENT_DEPTH),
        ),
        ("tools called in one round", thousands(client::MAX_CALLS)),
        ("rounds of tools", thousands(client::MAX_ROUNDS as usize)),
        (
            "unread on a stream, the only request",
            mib(bounds.stream_rest),
        ),
        ("unread on a stream ", mib(bounds.stream)),
        ("unread on all streams of a client", mib(bounds.client)),
        (
            "text from confer_stream_collect()",
            mib(client::MAX_COLLECTED),
        ),
        ("a request, a conversation", mib(MAX_BODY)),
        (
            "a text of a message, characters",
            thousands(client::MAX_TEXT),
        ),
        (
            "tools, documents of a request",
            format!(
                "{}, {}",
                client::MAX_TOOLS,
                thousands(client::MAX_DOCUMENTS)
            ),
        ),
        ("requests that wait to be sent", mib(bounds.unsent)),
        ("open requests of a client", thousands(bounds.requests)),
        ("uploads at once on a connection", thousands(MAX_UPLOADS)),
        ("data of an upload in memory", mib(2 * MAX_CHUNK)),
        ("data written and not sent, in addition", mib(MAX_CHUNK)),
        (
            "time of a tool",
            format!("{} h", client::BOUND_TIME.end() / 3_600_000),
        ),
    ];
    for (what, number) in rows {
        let row = header
            .lines()
            .find(|line| line.starts_with(&format!(" *              {what}")))
            .unwrap_or_else(|| panic!("no row for {what}"));
        let told = row.split_once(what).unwrap().1.trim_start();
        assert!(told.starts_with(&number), "{row}: it is {number}");
    }
}

/// `examples/c/hello.c` is the program that the header and README.md begin with. Other tests run it.
#[test]
fn the_header_and_the_readme_print_the_first_example() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let hello = read("examples/c/hello.c");
    let printed: String = hello
        .lines()
        .map(|line| format!(" *     {line}").trim_end().to_owned() + "\n")
        .collect();
    assert!(generate().contains(&printed), "cbindgen.toml");
    assert!(
        read("README.md").contains(&format!("```c\n{hello}```\n")),
        "README.md"
    );
}
