//! x
/// x
#[derive(clap::Args, Debug)]
pub struct Options {}
/// x
pub fn run(_: &Options) -> Result<(), String> {
    Ok(())
}
