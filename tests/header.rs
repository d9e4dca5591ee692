//! include/weald.h is what src/ffi says: generated section by section, committed, and compared here.
//!
//! The order of the sections is the order of the `pub mod` lines in src/ffi/mod.rs. Each section is one run of cbindgen
//! over one file, under a heading made of that file's `//!` text; cbindgen.toml holds the settings and what stands
//! before and after the sections. `make header` (WEALD_WRITE_HEADER=1) writes the file.

use std::env;
use std::fs;
use std::path::PathBuf;

const WIDTH: usize = 100;

#[test]
fn header_is_what_ffi_says() {
    let path = root().join("include/weald.h");
    let fresh = header();
    if env::var_os("WEALD_WRITE_HEADER").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, fresh).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = first_difference(&kept, &fresh) {
        panic!(
            "include/weald.h is not what src/ffi says, from line {} on; `make header` writes it anew\n  kept:  {}\n  fresh: {}",
            line + 1,
            kept.lines().nth(line).unwrap_or("(end of file)"),
            fresh.lines().nth(line).unwrap_or("(end of file)"),
        );
    }
}

#[test]
fn a_one_line_comment_stays_on_one_line() {
    assert_eq!(tidy("/*\n Waits.\n */\nint f(void);\n"), "/* Waits. */\nint f(void);\n");
}

#[test]
fn a_long_comment_gets_stars_and_keeps_its_indent() {
    let raw = "  /*\n   Waits.\n\n   And waits.\n   */\n  int f;\n";
    assert_eq!(tidy(raw), "  /* Waits.\n   *\n   * And waits. */\n  int f;\n");
}

#[test]
fn a_negative_constant_gets_parentheses() {
    assert_eq!(tidy("#define WEALD_EPERM -1\n"), "#define WEALD_EPERM (-1)\n");
    assert_eq!(tidy("#define WEALD_READ 1\n"), "#define WEALD_READ 1\n");
}

#[test]
fn constants_without_comments_stand_together() {
    assert_eq!(tidy("#define A 1\n\n#define B 2\n\nint f(void);\n"), "#define A 1\n#define B 2\n\nint f(void);\n");
}

#[test]
fn a_long_prototype_goes_on_under_its_first_argument() {
    let name = "n".repeat(70);
    let raw = format!("int {name}(int first, int second, int third);\n");
    let kept = format!("int {name}(int first, int second,\n{}int third);\n", " ".repeat(75));
    assert_eq!(tidy(&raw), kept);
}

#[test]
fn a_comment_is_broken_anew_at_the_header_s_width() {
    let raw = format!("/*\n {}\n b\n */\nint f;\n", "a ".repeat(60));
    let kept = format!("/* {}\n * {}b */\nint f;\n", "a ".repeat(49).trim_end(), "a ".repeat(11));
    assert_eq!(tidy(&raw), kept);
    assert_eq!(tidy("/*\n Waits\n for it.\n */\nint f;\n"), "/* Waits for it. */\nint f;\n");
}

#[test]
fn the_end_of_a_comment_stays_within_the_width() {
    for long in 88..95 {
        let raw = format!("/*\n a {}\n */\nint f;\n", "b".repeat(long));
        assert!(tidy(&raw).lines().all(|line| line.len() <= WIDTH), "{}", tidy(&raw));
    }
}

#[test]
fn a_list_in_a_comment_keeps_its_lines() {
    let raw = "/*\n What is there:\n\n - one\n   more\n - two\n */\nint f;\n";
    assert_eq!(tidy(raw), "/* What is there:\n *\n * - one\n *   more\n * - two */\nint f;\n");
}

#[test]
fn a_section_opens_with_all_that_its_file_says_of_it() {
    let source = "//! Events.\n//!\n//! A flag that\n//! is waited for.\n\nuse x;\n";
    let rule = "-".repeat(94);
    let kept = format!("/* {rule}\n * Events.\n *\n * A flag that is waited for.\n * {rule} */");
    assert_eq!(heading(&about(source)), kept);
}

#[test]
fn a_struct_of_ours_goes_by_its_plain_name() {
    assert_eq!(tidy("int f(const struct weald_x *x);\n"), "int f(const weald_x *x);\n");
    assert_eq!(tidy("typedef struct weald_x {\n"), "typedef struct weald_x {\n");
}

#[test]
fn the_order_is_that_of_the_public_modules() {
    assert_eq!(public_modules("mod fence;\npub mod base;\n  pub mod event;\npub mod x {}\n"), ["base", "event"]);
}

fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()))
}

fn header() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let before = config.header.take().expect("cbindgen.toml has a header");
    let after = config.trailer.take().expect("cbindgen.toml has a trailer");
    let modules = fs::read_to_string(root().join("src/ffi/mod.rs")).expect("src/ffi/mod.rs");

    let mut text = before.trim_start().replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    for module in public_modules(&modules) {
        text.push_str(&section(&config, module));
    }
    text + &after
}

fn public_modules(source: &str) -> Vec<&str> {
    source.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// One file's part of the header; nothing if the file exports nothing.
fn section(config: &cbindgen::Config, module: &str) -> String {
    let path = source_of(module);
    let mut raw = Vec::new();
    cbindgen::Builder::new()
        .with_config(config.clone())
        .with_src(&path)
        .generate()
        .unwrap_or_else(|e| panic!("cbindgen cannot read {}: {e}", path.display()))
        .write(&mut raw);
    let body = tidy(&String::from_utf8(raw).expect("the header is UTF-8"));
    if body.trim().is_empty() {
        return String::new();
    }
    let source = fs::read_to_string(&path).expect("cbindgen has just read it");
    let about = about(&source);
    assert!(!about.is_empty(), "{} needs a //! text: it becomes the section's heading", path.display());
    format!("\n{}\n\n{}\n", heading(&about), body.trim())
}

fn source_of(module: &str) -> PathBuf {
    let folder = root().join("src/ffi");
    let file = folder.join(format!("{module}.rs"));
    if file.exists() { file } else { folder.join(module).join("mod.rs") }
}

/// A file's `//!` text.
fn about(source: &str) -> Vec<&str> {
    source.lines().map_while(|line| line.strip_prefix("//!")).collect()
}

/// A comment between two rules.
fn heading(about: &[&str]) -> String {
    let rule = "-".repeat(WIDTH - "/*  */".len());
    format!("/* {rule}\n{}\n * {rule} */", starred("", about))
}

/// cbindgen gives every comment the lines `/*`, ` text`, ` */`, leaves negative numbers bare, is generous with empty
/// lines, and writes `struct weald_x` in the section that defines it but `weald_x` in the others. A header that is read
/// in one sitting wants `/* text */`, stars on longer ones, `(-1)`, few empty lines, and plain names everywhere.
fn tidy(raw: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = raw.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "/*" {
            let indent = &line[..line.len() - 2];
            let text: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "*/").collect();
            out.push(comment(indent, &text));
        } else if line.trim().is_empty() {
            if out.last().is_some_and(|last| !last.is_empty()) {
                out.push(String::new());
            }
        } else {
            if continues_a_table(&out, line) {
                out.pop();
            }
            out.push(wrapped(&plain_names(&with_parentheses(line))));
        }
    }
    out.join("\n") + "\n"
}

/// A constant without a comment of its own, after another constant and an empty line.
fn continues_a_table(out: &[String], line: &str) -> bool {
    line.starts_with("#define ")
        && matches!(out, [.., before, empty] if before.starts_with("#define ") && empty.is_empty())
}

/// A prototype that is too long goes on under its first argument.
fn wrapped(line: &str) -> String {
    let Some(open) = line.find('(').filter(|_| line.len() > WIDTH && line.ends_with(");")) else {
        return line.to_string();
    };
    let indent = " ".repeat(open + 1);
    let mut out = String::new();
    let mut start = 0;
    for part in line.split_inclusive(", ") {
        if out.len() - start + part.trim_end().len() > WIDTH {
            out.truncate(out.trim_end().len());
            out.push('\n');
            start = out.len();
            out.push_str(&indent);
        }
        out.push_str(part);
    }
    out
}

fn comment(indent: &str, text: &[&str]) -> String {
    let text: Vec<&str> = text.iter().map(|line| line.strip_prefix(indent).unwrap_or(line).trim_end()).collect();
    let block = starred(indent, &text);
    assert!(!block.contains("*/"), "a comment in src/ffi ends itself: {block}");
    format!("{indent}/{} */", block.trim_start())
}

/// Paragraphs, each line behind a star.
fn starred(indent: &str, text: &[&str]) -> String {
    let paragraphs: Vec<String> = text
        .split(|line| line.is_empty())
        .map(|paragraph| refilled(paragraph, WIDTH - indent.len() - " *".len()))
        .map(|lines| lines.iter().map(|line| format!("{indent} *{line}")).collect::<Vec<_>>().join("\n"))
        .collect();
    paragraphs.join(&format!("\n{indent} *\n"))
}

/// A paragraph broken anew at the header's width; lists, tables and code stay as they are. The last line leaves room
/// for what ends a comment.
fn refilled(paragraph: &[&str], width: usize) -> Vec<String> {
    let is_plain = |line: &&str| {
        let text = line.strip_prefix(' ').unwrap_or("\t");
        !text.starts_with([' ', '\t', '|']) && !["- ", "* ", "```"].iter().any(|mark| text.starts_with(mark))
    };
    if !paragraph.iter().all(is_plain) {
        return paragraph.iter().map(|line| line.to_string()).collect();
    }
    let words: Vec<&str> = paragraph.iter().flat_map(|line| line.split_whitespace()).collect();
    let mut lines = vec![String::new()];
    for (i, word) in words.iter().enumerate() {
        let room = if i + 1 == words.len() { width - " */".len() } else { width };
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > room) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("there is one");
        line.push(' ');
        line.push_str(word);
    }
    lines
}

fn with_parentheses(line: &str) -> String {
    let Some(rest) = line.strip_prefix("#define ") else { return line.to_string() };
    match rest.split_once(' ') {
        Some((name, value)) if value.starts_with('-') => format!("#define {name} ({value})"),
        _ => line.to_string(),
    }
}

fn plain_names(line: &str) -> String {
    if line.starts_with("typedef struct") || line.starts_with("struct") {
        return line.to_string();
    }
    line.replace("struct weald_", "weald_")
}

fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    Some(a.lines().zip(b.lines()).take_while(|(x, y)| x == y).count())
}
