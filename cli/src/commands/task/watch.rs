//! `tq task watch`

use std::io::{self, IsTerminal as _};
use std::pin::pin;

use indicatif::ProgressBar;
use tokio::signal;
use tq_client::{Attempt, FollowTaskResponse, Progress, Task, TaskState};

use crate::commands::{connect, waiting};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, escaped, json};
use crate::units::Moment;

pub(crate) async fn run(config: &Config, id: &str, with_log: bool) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let mut following = client.follow(id, with_log);
    let mut screen = Screen::new(config.output.value);
    let mut note = pin!(waiting::for_tasks(&client));
    loop {
        let update = tokio::select! {
            update = following.next() => update?,
            never = &mut note => match never {},
            interrupted = signal::ctrl_c() => {
                interrupted?;
                screen.bar.finish_and_clear();
                output::note(format!("interrupted; task {id} goes on"));
                return Ok(Exit::Interrupted);
            }
        };
        let Some(update) = update else {
            break;
        };
        screen.show(update)?;
    }
    screen.bar.finish_and_clear();
    match screen.task.map(|task| task.state()) {
        Some(TaskState::Succeeded) => Ok(Exit::Succeeded),
        Some(_) | None => Ok(Exit::Ended),
    }
}

/// What is shown of a task.
struct Screen {
    format: Format,
    /// Hidden where there is no terminal: there progress is lines.
    bar: ProgressBar,
    task: Option<Task>,
    progress: Option<String>,
}

impl Screen {
    fn new(format: Format) -> Self {
        let has_bar = format == Format::Table && io::stderr().is_terminal();
        Self {
            format,
            bar: match has_bar {
                true => output::fraction_bar(),
                false => ProgressBar::hidden(),
            },
            task: None,
            progress: None,
        }
    }

    fn show(&mut self, update: FollowTaskResponse) -> anyhow::Result<()> {
        let FollowTaskResponse {
            task,
            progress,
            log,
        } = update;
        if self.format == Format::Json {
            return self.show_json(task, progress.as_ref(), &log);
        }
        for chunk in &log {
            self.bar.suspend(|| output::guest_text(&chunk.text))?;
        }
        if let Some(progress) = progress {
            self.show_progress(&progress)?;
        }
        if let Some(task) = task {
            for line in changes(self.task.as_ref(), &task) {
                self.bar.suspend(|| output::line(line))?;
            }
            if task.state() != TaskState::Running {
                self.bar.reset();
                self.progress = None;
            }
            self.task = Some(task);
        }
        Ok(())
    }

    fn show_json(
        &mut self,
        task: Option<Task>,
        progress: Option<&Progress>,
        log: &[tq_client::LogChunk],
    ) -> anyhow::Result<()> {
        // One object a line, and the task's end behind everything else.
        let mut changes: Vec<json::TaskChange<'_>> = Vec::new();
        changes.extend(log.iter().map(|chunk| json::TaskChange::Log(chunk.into())));
        changes.extend(progress.map(|progress| json::TaskChange::Progress(progress.into())));
        changes.extend(
            task.as_ref()
                .map(|task| json::TaskChange::Task(Box::new(task.into()))),
        );
        for change in changes {
            output::line(serde_json::to_string(&change)?)?;
        }
        if task.is_some() {
            self.task = task;
        }
        Ok(())
    }

    fn show_progress(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let percent = (progress.fraction * 100.0).floor();
        let note = escaped(&progress.note);
        self.bar.set_position(percent as u64);
        self.bar.set_message(note.clone());
        if self.bar.is_hidden() {
            let shown = format!("progress: {percent} % {note}")
                .trim_end()
                .to_owned();
            if self.progress.as_ref() != Some(&shown) {
                output::line(&shown)?;
            }
            self.progress = Some(shown);
        }
        Ok(())
    }
}

/// What has become of a task since it was shown before, in lines.
fn changes(before: Option<&Task>, now: &Task) -> Vec<String> {
    let mut lines = Vec::new();
    let of_before = before.map_or(&[][..], |task| &task.attempts);
    for attempt in &now.attempts {
        let Attempt {
            number,
            host,
            outcome,
            ..
        } = attempt;
        let known = of_before.iter().find(|it| it.number == *number);
        match known {
            None if outcome.is_empty() => {
                lines.push(format!("running: attempt {number} on host {host}"));
            }
            Some(known) if known.outcome == *outcome => {}
            None | Some(_) => {
                let message = attempt.failure.as_ref().map_or("", |failure| {
                    failure.message.lines().next().unwrap_or_default()
                });
                let why = match message.is_empty() {
                    true => String::new(),
                    false => format!(": {}", escaped(message)),
                };
                lines.push(format!(
                    "attempt {number} on host {host} ended: {outcome}{why}"
                ));
            }
        }
    }
    if !now.stop.is_empty() && before.is_none_or(|before| before.stop.is_empty()) {
        lines.push(format!("told to stop: {}", now.stop));
    }
    let is_as_before = before.is_some_and(|before| before.state == now.state);
    match now.state() {
        // Its attempt says so.
        TaskState::Running => {}
        TaskState::Scheduled if now.run_at_ms > 0 => {
            if !is_as_before || before.is_some_and(|before| before.run_at_ms != now.run_at_ms) {
                lines.push(format!("scheduled for {}", Moment(now.run_at_ms)));
            }
        }
        TaskState::Unspecified
        | TaskState::Blocked
        | TaskState::Scheduled
        | TaskState::Ready
        | TaskState::Succeeded
        | TaskState::Dead
        | TaskState::Cancelled
        | TaskState::Expired => {
            if !is_as_before {
                lines.push(json::state(now.state()).to_owned());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use tq_client::Failure;

    use super::*;

    fn attempt(number: u32, host: &str, outcome: &str) -> Attempt {
        Attempt {
            number,
            host: host.to_owned(),
            outcome: outcome.to_owned(),
            ..Attempt::default()
        }
    }

    fn task(state: TaskState, attempts: Vec<Attempt>) -> Task {
        Task {
            state: state.into(),
            attempts,
            ..Task::default()
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let ready = task(TaskState::Ready, vec![]);
        let first = task(TaskState::Running, vec![attempt(1, "a", "")]);
        let mut lost = attempt(1, "a", "host_lost");
        lost.failure = Some(Failure {
            message: "the host\u{1b} went away\nfor good".to_owned(),
            ..Failure::default()
        });
        let second = task(TaskState::Running, vec![lost.clone(), attempt(2, "b", "")]);
        let mut stopping = second.clone();
        stopping.stop = "cancel".to_owned();
        let ended = task(
            TaskState::Cancelled,
            vec![lost, attempt(2, "b", "cancelled")],
        );
        assert_eq!(changes(None, &ready), ["ready"]);
        assert_eq!(
            changes(Some(&ready), &first),
            ["running: attempt 1 on host a"]
        );
        assert_eq!(changes(Some(&first), &first), Vec::<String>::new());
        assert_eq!(
            changes(Some(&first), &second),
            [
                "attempt 1 on host a ended: host_lost: the host\\u{1b} went away",
                "running: attempt 2 on host b"
            ]
        );
        assert_eq!(changes(Some(&second), &stopping), ["told to stop: cancel"]);
        assert_eq!(
            changes(Some(&stopping), &ended),
            ["attempt 2 on host b ended: cancelled", "cancelled"]
        );
        let mut waiting = task(TaskState::Scheduled, vec![]);
        waiting.run_at_ms = 1_000;
        assert_eq!(
            changes(None, &waiting),
            ["scheduled for 1970-01-01T00:00:01.000Z"]
        );
    }
}
