//! Results as files: written by a run, and read again by `--compare`.

use std::{fs, path::Path};

use super::{ladder::Climb, options::Options, plan::Plan, report::Report};

/// Results with their labels.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub runs: Vec<(String, Report)>,
    pub ladders: Vec<(String, Climb)>,
}

impl Results {
    /// Reads the files that `--compare` names.
    pub(super) fn read(options: &Options) -> Result<Self, String> {
        let mut results = Self::default();
        for (index, path) in options.compare.iter().enumerate() {
            let name = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            results.read_file(path, options.label.get(index).cloned().unwrap_or_else(name))?;
        }
        Ok(results)
    }

    fn read_file(&mut self, path: &Path, label: String) -> Result<(), String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let no_report = |error| format!("{}: not a report that --json wrote: {error}", path.display());
        let value: serde_json::Value = serde_json::from_str(&text).map_err(no_report)?;
        // Only a ladder has rules.
        if value.get("rules").is_some() {
            self.ladders.push((label, serde_json::from_value(value).map_err(no_report)?));
        } else {
            self.runs.push((label, serde_json::from_value(value).map_err(no_report)?));
        }
        Ok(())
    }

    /// Writes the data files that `plan` asks for, of the first result.
    pub(super) fn write(&self, plan: &Plan) -> Result<(), String> {
        let (run, ladder) = (self.runs.first().map(|run| &run.1), self.ladders.first().map(|ladder| &ladder.1));
        if let Some(path) = &plan.json {
            let json = match ladder {
                Some(climb) => serde_json::to_string_pretty(climb),
                None => serde_json::to_string_pretty(&run),
            };
            write(path, &(json.map_err(|error| error.to_string())? + "\n"))?;
        }
        if let Some(path) = &plan.hgrm {
            let hgrm = ladder.map_or_else(|| run.map(Report::hgrm), Climb::hgrm);
            write(path, &hgrm.ok_or_else(|| format!("{}: not written: no step was good", path.display()))?)?;
        }
        Ok(())
    }
}

/// Writes a file. The error names it.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
