//! The page that `dsconv --help` prints: the subcommands by what people do first, and examples.

use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::fmt::Write;

/// The subcommands, in groups.
pub(crate) const GROUPS: [(&str, &[&str]); 3] = [
    ("Make a network small, and use it", &["quantize", "classify", "detect", "evaluate", "run"]),
    ("Look into a network", &["inspect", "export", "yolov9"]),
    ("Check and measure this machine", &["devices", "verify", "bench", "isa"]),
];

const EXAMPLES: &str = "
  dsconv quantize network.onnx network.safetensors --bits 4 --calibrate some_pictures/
  dsconv inspect network.safetensors --against network.onnx --input picture.jpg
  dsconv classify network.safetensors picture.jpg
  dsconv bench network.safetensors --record today.json";

/// Parses the arguments, or prints help or an error, and exits.
pub(crate) fn parse<C: CommandFactory + FromArgMatches>(arguments: Vec<OsString>) -> C {
    let command = C::command();
    let template = template(&command);
    let mut command = command.help_template(template);
    let matches = command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| error.exit());
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
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
