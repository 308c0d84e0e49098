//! What `tq --help` says, taken apart.

use std::mem;

use crate::command::Tq;

/// The help of one command.
#[derive(Clone, Debug, Default)]
pub struct Help {
    /// The command as it is typed: `tq task list`.
    pub command: String,
    /// What it does, in one sentence.
    pub about: String,
    /// Its synopses, a line each.
    pub usage: Vec<String>,
    /// Its commands.
    pub commands: Vec<String>,
    /// Its arguments and options, under the heading that they stand under, in order.
    pub sections: Vec<(String, Vec<Argument>)>,
    /// What follows the options: remarks and examples.
    pub rest: String,
}

/// An argument or an option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// As it is typed: `-o, --output <FORMAT>`.
    pub name: String,
    /// What it does, with its default.
    pub text: String,
    /// The values that it may have, with what each means, if the help lists them.
    pub values: Vec<(String, String)>,
}

/// The help of `tq` and of every command below it, each before its own commands.
///
/// # Panics
/// A command has no help.
pub async fn every_command() -> Vec<Help> {
    let mut found = Vec::new();
    let mut waiting = vec![Vec::new()];
    while let Some(words) = waiting.pop() {
        let text = Tq::default()
            .run(words.iter().map(String::as_str).chain(["--help"]))
            .await
            .text();
        let command = ["tq".to_owned()].into_iter().chain(words.iter().cloned());
        let help = parse(&command.collect::<Vec<_>>().join(" "), &text);
        let below = help.commands.iter().rev();
        waiting.extend(below.map(|name| [&words[..], std::slice::from_ref(name)].concat()));
        found.push(help);
    }
    found
}

/// Reads what clap writes: headings at the margin, what is typed at up to six columns, and what it does at ten.
fn parse(command: &str, text: &str) -> Help {
    let mut help = Help {
        command: command.to_owned(),
        ..Help::default()
    };
    let mut lines = text.lines().peekable();
    help.about = lines.next().unwrap_or_default().to_owned();
    let mut heading = String::new();
    let mut is_gap = false;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim();
        let was_gap = mem::replace(&mut is_gap, words.is_empty());
        if words.is_empty() {
            continue;
        }
        if let Some(usage) = line.strip_prefix("Usage: ") {
            help.usage.push(usage.to_owned());
            heading.clear();
        } else if indent == 0 {
            let is_options = lines.peek().is_some_and(|next| next.starts_with("  "))
                && words.ends_with(':')
                && !words.starts_with("Example");
            if !is_options {
                // Nothing of clap's own comes behind remarks and examples.
                help.rest = line.to_owned();
                for line in lines {
                    help.rest.push('\n');
                    help.rest.push_str(line);
                }
                break;
            }
            words.trim_end_matches(':').clone_into(&mut heading);
            if heading != "Commands" {
                help.sections.push((heading.clone(), Vec::new()));
            }
        } else if heading.is_empty() {
            help.usage.push(words.to_owned());
        } else if heading == "Commands" {
            let name = words.split(' ').next().unwrap_or(words);
            if name != "help" && indent == 2 {
                help.commands.push(name.to_owned());
            }
        } else if let Some((_, arguments)) = help.sections.last_mut() {
            match arguments.last_mut() {
                Some(argument) if indent >= 10 => argument.add(words, was_gap),
                _ => arguments.push(Argument {
                    name: words.to_owned(),
                    ..Argument::default()
                }),
            }
        }
    }
    help
}

impl Argument {
    fn add(&mut self, words: &str, was_gap: bool) {
        if words == "Possible values:" {
        } else if let Some((value, meaning)) = words
            .strip_prefix("- ")
            .and_then(|listed| listed.split_once(':'))
        {
            let value = (value.to_owned(), meaning.trim().to_owned());
            self.values.push(value);
        } else if let Some((_, meaning)) = self.values.last_mut().filter(|_| !was_gap) {
            meaning.push(' ');
            meaning.push_str(words);
        } else {
            if !self.text.is_empty() {
                self.text.push(' ');
            }
            self.text.push_str(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Lists things, the newest first

Usage: tq list [OPTIONS] [NAME]
       tq list <COMMAND>

Commands:
  all   All of them
  help  Print this message

Arguments:
  [NAME]
          Which

Options:
  -s, --state <STATE>
          Only those in this state, with a text that is so long that it goes
          on [env: X]

          Possible values:
          - old: Has been there for a long
            time
          - new: Has not

      --limit <N>
          How many at most
          
          [default: 100]

Remarks: none.

Examples:
  tq list
";

    #[test]
    fn help_is_taken_apart() {
        let help = parse("tq list", TEXT);
        assert_eq!(help.about, "Lists things, the newest first");
        assert_eq!(
            help.usage,
            ["tq list [OPTIONS] [NAME]", "tq list <COMMAND>"]
        );
        assert_eq!(help.commands, ["all"]);
        assert_eq!(help.rest, "Remarks: none.\n\nExamples:\n  tq list");
        let argument = |name: &str, text: &str, values: &[(&str, &str)]| Argument {
            name: name.to_owned(),
            text: text.to_owned(),
            values: values
                .iter()
                .map(|(value, meaning)| ((*value).to_owned(), (*meaning).to_owned()))
                .collect(),
        };
        let state = argument(
            "-s, --state <STATE>",
            "Only those in this state, with a text that is so long that it goes on [env: X]",
            &[
                ("old", "Has been there for a long time"),
                ("new", "Has not"),
            ],
        );
        let limit = argument("--limit <N>", "How many at most [default: 100]", &[]);
        let expected = [
            (
                "Arguments".to_owned(),
                vec![argument("[NAME]", "Which", &[])],
            ),
            ("Options".to_owned(), vec![state, limit]),
        ];
        assert_eq!(help.sections, expected);
    }
}
