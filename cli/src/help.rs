//! The page that `dsconv --help` prints: the subcommands by what people do first, and examples.

use crate::output::tell;
use clap::{CommandFactory, FromArgMatches};
use dsconv::shown;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;

/// The subcommands, in groups.
pub(crate) const GROUPS: [(&str, &[&str]); 3] = [
    (
        "Make a network small, and use it",
        &["quantize", "finetune", "classify", "detect", "evaluate", "run"],
    ),
    ("Look into a network", &["inspect", "export", "yolov9"]),
    ("Check and measure this machine", &["devices", "verify", "bench", "isa"]),
];

const EXAMPLES: &str = "
  dsconv quantize network.onnx network.safetensors --bits 4 --calibrate some_pictures/
  dsconv inspect network.safetensors --against network.onnx --input picture.jpg
  dsconv classify network.safetensors picture.jpg
  dsconv finetune network.safetensors classes/ --output mine.safetensors
  dsconv bench network.safetensors --record today.json";

/// Parses the arguments, or prints help or an error, and exits.
pub(crate) fn parse<C: CommandFactory + FromArgMatches>(arguments: Vec<OsString>) -> C {
    let command = C::command();
    let template = template(&command);
    let mut command = command.help_template(template);
    // Arguments may be the names of strangers' files.
    let mut told = arguments.iter().map(|argument| argument.to_string_lossy());
    let hostile = told.any(|argument| shown(&argument) != argument);
    let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|e| exit(&e, hostile));
    C::from_arg_matches(&matches).unwrap_or_else(|e| exit(&e.format(&mut command), hostile))
}

/// Prints help or an error, without colours if it could steer the terminal, and exits.
fn exit(error: &clap::Error, hostile: bool) -> ! {
    if hostile {
        tell!("{}", error.render());
    } else if let Err(error) = error.print().and_then(|()| std::io::stdout().flush()) {
        tell!("dsconv: standard output: {error}");
        std::process::exit(1);
    }
    std::process::exit(error.exit_code())
}

/// The page, with the lines that the subcommands say about themselves.
fn template(command: &clap::Command) -> String {
    let header = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let mut page = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (heading, names) in GROUPS {
        // Writing to a string can't fail.
        let _ = writeln!(page, "\n{header}{heading}:{header:#}");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(page, "  {literal}{name:<9}{literal:#}  {about}");
        }
    }
    let _ = write!(
        page,
        "\n{header}Options:{header:#}\n{{options}}\n\n\
         `dsconv COMMAND --help` lists a command's options. Without a command dsconv runs its demo: four pictures,\n\
         classified by a 4-bit network that it carries, and by the same network in f32.\n\n\
         {header}Examples:{header:#}{EXAMPLES}\n"
    );
    page
}
