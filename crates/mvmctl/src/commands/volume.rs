//! `mvmctl volume …`.

use crate::context::Context;
use crate::error::Misuse;
use crate::files;
use crate::printer::{bytes, span};
use anyhow::{Context as _, ensure};
use clap::Subcommand;
use mvm_engine::{Size, VolumeRecord};
use mvm_ref::VolumeName;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make, list, grow, export and remove volumes: disks that outlive VMs
#[derive(Subcommand)]
pub enum Command {
    /// Make a volume
    Create {
        /// How large it is; it takes only what is written to it
        #[arg(long, value_name = "SIZE", default_value = "10g")]
        size: Size,
        /// File with the disk that it begins with, a raw ext4 file system such as `export` writes
        #[arg(long, value_name = "FILE", conflicts_with = "size")]
        from: Option<PathBuf>,
        /// The volume
        name: VolumeName,
    },
    /// List volumes
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a volume
    Inspect {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// The volume
        name: VolumeName,
    },
    /// Make a volume larger that no VM uses
    ///
    /// Its file system grows when it is next mounted to be written. A volume can't become smaller.
    Grow {
        /// How large it is to be
        #[arg(long, value_name = "SIZE")]
        size: Size,
        /// The volume
        name: VolumeName,
    },
    /// Write the disk of a volume that no VM writes to: a raw ext4 file system
    ///
    /// Its files as an archive come out of a VM: mvmctl run --rm -v NAME:/v:ro IMAGE tar -C /v -c .
    Export {
        /// File to write, `-` for standard output [default: standard output, unless that is a terminal]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The volume
        name: VolumeName,
    },
    /// Remove volumes that no VM uses, with all that is in them
    Rm {
        /// The volumes
        #[arg(required = true)]
        name: Vec<VolumeName>,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { size, from, name } => {
            let engine = context.engine()?;
            let volume = match from {
                Some(path) => {
                    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
                    engine.create_volume_from(&name, &file)?
                }
                None => engine.create_volume(&name, Some(size))?,
            };
            context.printer.line(volume.name)?;
        }
        Command::Ls { json } => list(context, json)?,
        Command::Inspect { json, name } => {
            let volume = context.engine_to_look()?.volume(&name)?;
            if json { context.printer.json(&volume)? } else { show(context, &volume)? }
        }
        Command::Grow { size, name } => {
            let volume = context.engine()?.grow_volume(&name, size)?;
            context.printer.line(volume.name)?;
        }
        Command::Export { output, name } => export(context, output.as_deref(), &name)?,
        Command::Rm { name } => {
            for name in name {
                let freed = context.engine()?.remove_volume(&name)?;
                context.printer.line(name)?;
                context.printer.words(format_args!("freed {}", bytes(freed)));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, json: bool) -> anyhow::Result<()> {
    let volumes = context.engine_to_look()?.volumes()?;
    if json {
        return context.printer.json(&volumes);
    }
    let now = mvm_engine::unix_seconds();
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|volume| {
            vec![
                volume.name.to_string(),
                bytes(volume.size),
                bytes(volume.used),
                format!("{} ago", span(now - volume.created_at)),
                volume.holder.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    Ok(context.printer.table(&["VOLUME", "SIZE", "ON DISK", "CREATED", "IN USE BY"], &rows)?)
}

fn show(context: &Context, volume: &VolumeRecord) -> anyhow::Result<()> {
    let created = mvm_engine::utc_time(volume.created_at).unwrap_or_default();
    for line in [
        format!("volume     {}", volume.name),
        format!("scope      {}", context.settings().scope),
        format!("disk       {}", volume.path.display()),
        format!("size       {}", bytes(volume.size)),
        format!("on disk    {}", bytes(volume.used)),
        format!("created    {created}"),
        format!("in use by  {}", volume.holder.as_deref().unwrap_or("nobody")),
    ] {
        context.printer.line(line)?;
    }
    Ok(())
}

fn export(context: &Context, output: Option<&Path>, name: &VolumeName) -> anyhow::Result<()> {
    let (engine, cancel) = (context.engine()?, context.signals.cancel());
    match output.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            files::replace_with(path, |file| Ok(engine.export_volume(name, file, Some(path), cancel)?))
                .with_context(|| format!("write {}", path.display()))
        }
        None => {
            let words = "a disk is nothing for a terminal; use --output FILE, or redirect";
            ensure!(!context.printer.shows_data() || output.is_some(), Misuse(words.to_owned()));
            Ok(engine.export_volume(name, &context.printer.raw()?, None, cancel)?)
        }
    }
}
