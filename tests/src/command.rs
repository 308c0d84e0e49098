//! Running a `tq` command to its end.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::process::{binary, command};
use crate::wait::within_times;

/// `tq`, as it is called for one broker.
#[derive(Clone, Debug, Default)]
pub struct Tq {
    /// What is run instead of the binary.
    program: Option<PathBuf>,
    broker: Option<String>,
    folder: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    /// How many times longer than others it may take; 0 is as long.
    slowness: u32,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// The message with which the first attempt of a task failed, in the record that `tq run --output json` prints; empty if it did not.
#[must_use]
pub fn failure(task: &Value) -> &str {
    let message = &task["attempts"][0]["failure"]["message"];
    message.as_str().unwrap_or_default()
}

impl Tq {
    /// Commands that find the broker at `url` in `TQ_BROKER`.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            broker: Some(url.to_owned()),
            ..Self::default()
        }
    }

    /// Another program that is called for the same broker.
    #[must_use]
    pub fn other(&self, program: impl Into<PathBuf>) -> Self {
        Self {
            program: Some(program.into()),
            ..self.clone()
        }
    }

    /// The same, run in `folder`.
    #[must_use]
    pub fn inside(&self, folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..self.clone()
        }
    }

    /// The same, with a variable of the environment.
    #[must_use]
    pub fn with_env(&self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let mut tq = self.clone();
        tq.variables.push((name.into(), value.into()));
        tq
    }

    /// The same, which may take several times as long: a compiler has work to do.
    #[must_use]
    pub fn slowly(&self, times: u32) -> Self {
        Self {
            slowness: times,
            ..self.clone()
        }
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        self.run_with_input(words, &[]).await
    }

    /// Runs a command to its end, with `input` on its standard input.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn run_with_input<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Ran {
        let words: Vec<S> = words.into_iter().collect();
        let spoken: Vec<_> = words
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        let program = self.program.clone().unwrap_or_else(binary);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{name} {}", spoken.join(" "));
        let mut command = command(&program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(url) = &self.broker {
            command.env("TQ_BROKER", url);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("`{line}` cannot be started: {error}"));
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let ended = async {
            let feed = async move {
                // A command that does not read its input closes it, which is its right.
                drop(stdin.write_all(input).await);
            };
            let ((), output) = tokio::join!(feed, child.wait_with_output());
            output.expect("a child can be waited for")
        };
        let output = within_times(&line, self.slowness.max(1), ended).await;
        Ran {
            line,
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Deploys the component in `path` as `name`, with further `flags`.
    ///
    /// # Panics
    /// It is refused.
    pub async fn deploy(&self, path: &Path, name: &str, flags: &[&str]) {
        let words = [
            OsStr::new("deploy"),
            path.as_os_str(),
            OsStr::new("--name"),
            OsStr::new(name),
        ];
        self.run(words.into_iter().chain(flags.iter().map(OsStr::new)))
            .await
            .ok();
    }
}

impl Ran {
    /// Standard output of a command that has succeeded, as text.
    ///
    /// # Panics
    /// It has not succeeded.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        self.ok();
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Checks that it has succeeded.
    ///
    /// # Panics
    /// It has not.
    #[track_caller]
    pub fn ok(&self) {
        assert_eq!(self.code, Some(0), "`{}` wrote: {}", self.line, self.stderr);
    }

    /// Standard output as JSON, whatever the exit code is.
    ///
    /// # Panics
    /// It is no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "`{}` printed no JSON ({error}), and wrote: {}",
                self.line, self.stderr
            )
        })
    }
}
