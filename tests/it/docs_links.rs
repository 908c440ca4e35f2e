//! Links of the documents lead somewhere: to a file of the repository, and to a heading in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The pages whose links are looked at: README, and all of `docs/`.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("docs")).expect("the documents are there");
    let mut pages: Vec<PathBuf> = files.map(|entry| entry.expect("the folder is readable").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    pages
}

/// The lines of a page that are no code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where the links of a page lead: `](TARGET)`.
fn targets(page: &str) -> Vec<&str> {
    let links = prose(page).flat_map(|line| line.split("](").skip(1));
    links.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchor of a heading, as hosts of Markdown make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// What is wrong with a link of the page at `path`.
fn fault(path: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = path.parent().expect("a file is in a folder");
    let file = if file.is_empty() { path.to_owned() } else { folder.join(file) };
    if !file.exists() {
        return Some(format!("{}: there is no {target}", path.display()));
    }
    let is_there = heading.is_empty() || {
        let page = fs::read_to_string(&file).expect("headings are in text files");
        prose(&page).any(|line| line.starts_with('#') && anchor(line) == heading)
    };
    (!is_there).then(|| format!("{}: there is no heading for {target}", path.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let faults = pages().into_iter().flat_map(|path| {
        let page = fs::read_to_string(&path).expect("the page is readable");
        targets(&page).into_iter().filter_map(|target| fault(&path, target)).collect::<Vec<_>>()
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocols.md");
    let page = "see [a](nowhere.md) and [b](#http)\n```text\n[c](c.md)\n```\n[d](guarantees.md#gaps)";
    assert_eq!(targets(page), ["nowhere.md", "#http", "guarantees.md#gaps"]);
    for (target, is_fault) in [
        ("nowhere.md", true),
        ("#http", false),
        ("#htttp", true),
        ("guarantees.md#gaps", false),
        ("guarantees.md#holes", true),
        ("https://example.org", false),
    ] {
        assert_eq!(fault(&path, target).is_some(), is_fault, "{target}");
    }
    assert_eq!(anchor("## fanfare.v1 over `WebSocket`"), "fanfarev1-over-websocket");
}
