//! Finds the examples of a page.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line of its fence, from 1.
    pub(super) line: usize,
    pub(super) tag: String,
    /// The comment on the line before it.
    pub(super) directive: String,
    pub(super) lines: Vec<String>,
}

impl Block {
    /// The reason in `<!-- not run: REASON -->`.
    pub(super) fn reason_not_run(&self) -> Option<&str> {
        self.directive.strip_prefix("not run:").map(str::trim).filter(|reason| !reason.is_empty())
    }
}

/// The blocks of a page, in order. Fails on a fence that is not closed.
pub(super) fn read_blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut before = "";
    while let Some((index, line)) = lines.next() {
        let Some(tag) = line.trim_start().strip_prefix("```") else {
            before = line.trim();
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let directive = before.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->")).unwrap_or_default();
        let mut block = Block {
            line: index + 1,
            tag: tag.trim().to_owned(),
            directive: directive.trim().to_owned(),
            lines: Vec::new(),
        };
        loop {
            let Some((_, line)) = lines.next() else { return Err(format!("{}: this block has no end", block.line)) };
            if line.trim() == "```" {
                break;
            }
            // Fewer spaces than the fence has are those of an empty line.
            block.lines.push(line.get(indent..).unwrap_or_default().to_owned());
        }
        before = "";
        blocks.push(block);
    }
    Ok(blocks)
}

#[test]
fn blocks_are_found_where_they_stand() {
    let page = "text\n<!-- redis -->\n```console\n$ a\n```\n- in a list:\n\n  ```json\n  {\n\n    }\n  ```\n";
    let block = |line, tag: &str, directive: &str, lines: &[&str]| Block {
        line,
        tag: tag.to_owned(),
        directive: directive.to_owned(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    };
    let expected = [block(3, "console", "redis", &["$ a"]), block(8, "json", "", &["{", "", "  }"])];
    assert_eq!(read_blocks(page).expect("each fence is closed"), expected);
    assert_eq!(read_blocks("```json\n{}"), Err("1: this block has no end".to_owned()));
}
