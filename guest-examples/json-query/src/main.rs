//! A plain program: the filter is its argument, JSON values come on standard input, results go to standard output.

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile, data, unwrap_valr};
use jaq_json::{Val, read, write};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [filter] = arguments.as_slice() else {
        eprintln!(
            "json-query takes one argument, the filter, but was given {}",
            arguments.len()
        );
        return ExitCode::FAILURE;
    };
    match query(
        filter,
        io::stdin().lock(),
        BufWriter::new(io::stdout().lock()),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the filter over every value of `input` and writes each result on a line of its own. The first error ends it.
fn query(filter: &str, input: impl BufRead, mut output: impl Write) -> Result<(), String> {
    let definitions = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    let functions = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(
            &arena,
            File {
                code: filter,
                path: (),
            },
        )
        .map_err(|errors| {
            format!(
                "filter `{filter}` is not valid: {}",
                first_parse_error(&errors)
            )
        })?;
    let compiled = Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|errors| {
            format!(
                "filter `{filter}` is not valid: {}",
                first_compile_error(&errors)
            )
        })?;

    for value in read::read_many(input) {
        let value = value.map_err(|error| format!("input is not JSON: {error}"))?;
        let context = Ctx::<data::JustLut<Val>>::new(&compiled.lut, Vars::new([]));
        for result in compiled.id.run((context, value)).map(unwrap_valr) {
            let result = result.map_err(|error| format!("filter `{filter}` failed: {error}"))?;
            write::write(&mut output, &write::Pp::default(), 0, &result)
                .and_then(|()| output.write_all(b"\n"))
                .map_err(|error| format!("result cannot be written: {error}"))?;
        }
    }
    output
        .flush()
        .map_err(|error| format!("result cannot be written: {error}"))
}

/// The first thing that the parser did not expect; later ones mostly follow from it.
fn first_parse_error(errors: &load::Errors<&str, ()>) -> String {
    let first = errors.first().and_then(|(_, error)| match error {
        load::Error::Io(errors) => errors
            .first()
            .map(|(path, error)| format!("cannot load `{path}`: {error}")),
        load::Error::Lex(errors) => errors
            .first()
            .map(|(expected, rest)| at(expected.as_str(), rest)),
        load::Error::Parse(errors) => errors
            .first()
            .map(|(expected, rest)| at(expected.as_str(), rest)),
    });
    first.unwrap_or_else(|| "it cannot be parsed".to_owned())
}

fn at(expected: &str, rest: &str) -> String {
    match rest {
        "" => format!("expected {expected} at its end"),
        rest => format!("expected {expected} at `{rest}`"),
    }
}

/// The first name that is not defined.
fn first_compile_error(errors: &compile::Errors<&str, ()>) -> String {
    let first = errors.first().and_then(|(_, errors)| errors.first());
    first.map_or_else(
        || "it cannot be compiled".to_owned(),
        |(name, undefined)| format!("undefined {} `{name}`", undefined.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::query;

    #[track_caller]
    fn check(filter: &str, input: &str, expected: Result<&str, &str>) {
        let mut output = Vec::new();
        let ended = query(filter, input.as_bytes(), &mut output);
        let output = String::from_utf8(output).expect("results are UTF-8");
        assert_eq!(
            ended
                .as_ref()
                .map(|()| output.as_str())
                .map_err(String::as_str),
            expected,
            "{filter}"
        );
    }

    #[test]
    fn results_come_one_a_line() {
        check(
            ".[] | .n + 1",
            r#"[{"n": 1}, {"n": 2}] [{"n": 3}]"#,
            Ok("2\n3\n4\n"),
        );
        check(
            "{a: .a, k: keys}",
            r#"{"b": "é", "a": null}"#,
            Ok("{\"a\":null,\"k\":[\"a\",\"b\"]}\n"),
        );
        check("empty", "1 2 3", Ok(""));
    }

    #[test]
    fn bad_filter_is_named_with_what_is_wrong() {
        check(
            ".a |",
            "{}",
            Err("filter `.a |` is not valid: expected term at its end"),
        );
        check(
            "(.a",
            "{}",
            Err("filter `(.a` is not valid: expected closing parenthesis at its end"),
        );
        check(
            "nosuch",
            "{}",
            Err("filter `nosuch` is not valid: undefined filter `nosuch`"),
        );
    }

    #[test]
    fn bad_input_and_a_failing_filter_are_told_apart() {
        check(
            ".a",
            "{",
            Err("input is not JSON: value or end of sequence expected"),
        );
        check(
            ".a",
            "1",
            Err("filter `.a` failed: cannot index 1 with \"a\""),
        );
    }
}
