//! `mvmctl kernel …`.

use crate::context::Context;
use crate::printer::bytes;
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// Import, build, list and remove guest kernels
#[derive(Subcommand)]
pub enum Command {
    /// Import a kernel: an unpacked distribution package, or a vmlinux with its configuration
    Import {
        /// Configuration of a vmlinux, if it does not lie beside it as `.config` or `config`
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Boot it when nothing else is asked for
        #[arg(long)]
        default: bool,
        /// Directory with boot/ and lib/modules/, or a vmlinux file
        path: PathBuf,
    },
    /// Build the tuned kernel from a distribution's kernel source and import it
    Build {
        /// linux-source-*.tar.xz [default: the newest in /usr/src]
        #[arg(long, value_name = "FILE")]
        source: Option<PathBuf>,
        /// Directory to build in, kept for the next time [default: in the store's cache]
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Compilers to run at once [default: one per CPU]
        #[arg(long, short, value_name = "N")]
        jobs: Option<usize>,
    },
    /// List kernels; the one marked * is booted when nothing else is asked for
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a kernel the one that is booted when nothing else is asked for
    Default {
        /// A digest, or its beginning
        kernel: String,
    },
    /// Remove kernels
    Rm {
        /// A digest, or its beginning
        #[arg(required = true)]
        kernel: Vec<String>,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let engine = match command {
        Command::Ls { .. } => context.engine_to_look()?,
        _ => context.engine()?,
    };
    match command {
        Command::Import { config, default, path } => {
            let kernel = engine.import_kernel(&path, config.as_deref(), default)?;
            context.printer.words(format_args!("imported kernel {}", kernel.version));
            context.printer.line(kernel.digest)?;
        }
        Command::Build { source, directory, jobs } => {
            let kernel = engine.build_kernel(source.as_deref(), directory.as_deref(), jobs, &|line| {
                context.printer.words(line);
            })?;
            context.printer.words(format_args!("built and imported kernel {}", kernel.version));
            context.printer.line(kernel.digest)?;
        }
        Command::Ls { json } => {
            let kernels = engine.kernels()?;
            if json {
                context.printer.json(&kernels)?;
                return Ok(ExitCode::SUCCESS);
            }
            let rows: Vec<Vec<String>> = kernels
                .iter()
                .map(|kernel| {
                    vec![
                        if kernel.default { "*" } else { "" }.to_owned(),
                        kernel.digest.short(),
                        kernel.version.clone(),
                        kernel.machine.clone(),
                        kernel.modules.to_string(),
                        bytes(kernel.size),
                    ]
                })
                .collect();
            context.printer.table(&["", "DIGEST", "VERSION", "MACHINE", "MODULES", "SIZE"], &rows)?;
        }
        Command::Default { kernel } => context.printer.line(engine.set_default_kernel(&kernel)?)?,
        Command::Rm { kernel } => {
            for kernel in kernel {
                context.printer.line(engine.remove_kernel(&kernel)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
