//! The crash card of a dead letter: what somebody wants to know who is called at night, in the order in which they ask.

use tq_client::{CrashCard, Limits, Task, Tripped, Usage};

use crate::output::{escaped, json, table};
use crate::units::{Count, Moment, Size, Span, nanoseconds};

/// Cells of a bar.
const BAR: u64 = 24;
/// Characters of one line of a log.
const LINE_CHARS: usize = 400;

/// What comes before the attempts: what died and why, the limits, the backtrace and the end of the log. Without the last
/// line feed.
pub(crate) fn head(card: &CrashCard) -> String {
    let mut lines = Vec::new();
    let task = card.task.clone().unwrap_or_default();
    lines.push(format!(
        "{} {} of {}, version {}",
        json::state(task.state()),
        task.id,
        escaped(&task.function),
        task.module_version
    ));
    lines.push(format!(
        "died {} in namespace {}{}",
        Moment(task.ended_ms),
        task.namespace,
        match task.round {
            0 | 1 => String::new(),
            round => format!(", in round {round}"),
        }
    ));
    lines.push(String::new());
    let failure = card.failure.clone().unwrap_or_default();
    let message = escaped(failure.message.trim_end());
    lines.push(match message.is_empty() {
        true => task.outcome.clone(),
        false => format!("{}: {message}", task.outcome),
    });
    lines.push(String::new());
    lines.extend(limits(&card.tripped, &task));
    if !failure.backtrace.is_empty() {
        lines.push("\nbacktrace, innermost first".to_owned());
        let frames = failure.backtrace.lines();
        lines.extend(frames.map(|frame| format!("  {}", escaped(frame))));
    }
    lines.extend(log(card));
    lines.join("\n")
}

/// What comes behind the attempts: who else died so, and what to do. Without the last line feed.
pub(crate) fn foot(card: &CrashCard) -> String {
    let digits = table::digits(&card.signature);
    let task = card.task.clone().unwrap_or_default();
    let others = match (card.others, card.others_at_least) {
        (0, false) => "no other dead letter".to_owned(),
        (1, false) => "1 other dead letter".to_owned(),
        (others, at_least) => format!("{} other dead letters", table::at_least(others, at_least)),
    };
    let mut lines = vec![
        format!("signature   {digits}: {others} died the same way"),
        format!("redrive     {}", card.redrive_command),
    ];
    if card.others > 0 {
        let namespace = card
            .redrive_command
            .split_once(" --namespace ")
            .map(|(_, name)| format!(" --namespace {name}"))
            .unwrap_or_default();
        lines.push(format!(
            "all of them tq dead redrive --signature {digits} --dry-run{namespace}"
        ));
    }
    lines.push(match card.redrive_version == task.module_version {
        true => format!(
            "            (version {} is still the current one)",
            task.module_version
        ),
        false => format!(
            "            (with version {}; it died with {})",
            card.redrive_version, task.module_version
        ),
    });
    lines.join("\n")
}

/// Bars of what the last attempt used of its limits, and of the limits of the task; a mark is before those that it ran
/// into.
fn limits(tripped: &[Tripped], task: &Task) -> Vec<String> {
    let Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns: _,
        log_bytes: _,
    } = task
        .attempts
        .last()
        .and_then(|attempt| attempt.usage)
        .unwrap_or_default();
    let mut rows: Vec<(bool, Tripped)> = Vec::new();
    let row = |limit: &str, used, cap, unit: &str| Tripped {
        limit: limit.to_owned(),
        used: Some(used),
        cap,
        unit: unit.to_owned(),
    };
    let ran = wall_ns > 0;
    if let Some(Limits {
        fuel: fuel_cap,
        memory_bytes,
        timeout_ms,
        ..
    }) = task.limits.filter(|_| ran)
    {
        rows.push((false, row("fuel", fuel, fuel_cap, "")));
        rows.push((
            false,
            row("memory", memory_bytes_peak, memory_bytes, "bytes"),
        ));
        rows.push((false, row("timeout", wall_ns / 1_000_000, timeout_ms, "ms")));
    }
    for tripped in tripped {
        match rows.iter_mut().find(|(_, row)| row.limit == tripped.limit) {
            Some(row) => *row = (true, tripped.clone()),
            None => rows.push((true, tripped.clone())),
        }
    }
    rows.iter()
        .map(|(is_tripped, tripped)| bar(*is_tripped, tripped, wall_ns))
        .collect()
}

/// One bar. `wall_ns` is what its milliseconds are of, since most attempts take less than one.
fn bar(is_tripped: bool, tripped: &Tripped, wall_ns: u64) -> String {
    let Tripped {
        limit,
        used,
        cap,
        unit,
    } = tripped;
    let mark = if is_tripped { '!' } else { ' ' };
    let cap_shown = match unit.as_str() {
        "bytes" => Size(*cap).to_string(),
        "ms" => Span(*cap).to_string(),
        _ => Count(*cap).to_string(),
    };
    let Some(used) = used else {
        let full = "█".repeat(BAR as usize);
        return format!("{mark} {limit:<9}{full}  over {cap_shown}");
    };
    let used_shown = match unit.as_str() {
        "bytes" => mebibytes(*used),
        "ms" => nanoseconds(wall_ns),
        _ => Count(*used).to_string(),
    };
    // What is used is seen, however little it is, and only what is at its limit is full.
    let share = u128::from(*used) * u128::from(BAR) / u128::from((*cap).max(1));
    let filled = match is_tripped || used >= cap {
        true => BAR,
        false => u64::try_from(share).unwrap_or(BAR).clamp(1, BAR - 1),
    };
    let bar = "█".repeat(filled as usize) + &"░".repeat((BAR - filled) as usize);
    format!("{mark} {limit:<9}{bar}  {used_shown} of {cap_shown}")
}

/// Bytes with one decimal, so that what is measured and what is set are told apart: `128.0 MiB`.
fn mebibytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < MIB {
        return Size(bytes).to_string();
    }
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

/// The end of the log, each line behind a mark, so that nothing that a guest writes looks like a part of the card.
fn log(card: &CrashCard) -> Vec<String> {
    let text = String::from_utf8_lossy(&card.log_tail);
    if text.trim().is_empty() {
        return Vec::new();
    }
    let cut = if card.log_is_cut {
        ", its last lines"
    } else {
        ""
    };
    let mut lines = vec![format!("\nlog of the last attempt{cut}")];
    lines.extend(text.trim_end().lines().map(|line| {
        let line = escaped(line);
        match line.char_indices().nth(LINE_CHARS) {
            Some((end, _)) => format!("  | {}…", &line[..end]),
            None => format!("  | {line}").trim_end().to_owned(),
        }
    }));
    lines
}

#[cfg(test)]
mod tests {
    use tq_client::{Attempt, Failure, TaskState};

    use super::*;

    fn card() -> CrashCard {
        CrashCard {
            task: Some(Task {
                id: "01980c5e".into(),
                namespace: "default".into(),
                function: "mail/send".into(),
                module_version: 3,
                state: TaskState::Dead.into(),
                outcome: "memory_limit".into(),
                ended_ms: 1_700_000_000_000,
                round: 2,
                limits: Some(Limits {
                    fuel: 10_000_000_000,
                    memory_bytes: 128 << 20,
                    timeout_ms: 30_000,
                    ..Limits::default()
                }),
                attempts: vec![Attempt {
                    number: 1,
                    usage: Some(Usage {
                        fuel: 2_500_000_000,
                        memory_bytes_peak: (128 << 20) - 1024,
                        wall_ns: 12_300_000,
                        cpu_ns: 1,
                        log_bytes: 0,
                    }),
                    ..Attempt::default()
                }],
                ..Task::default()
            }),
            signature: "b2ca8c25865d98eaf18028586b897141".into(),
            tripped: vec![Tripped {
                limit: "memory".into(),
                used: Some((128 << 20) - 1024),
                cap: 128 << 20,
                unit: "bytes".into(),
            }],
            failure: Some(Failure {
                message: "memory is limited\u{1b}[2J".into(),
                backtrace: "mail::grow\n    at mail.rs:12\n".into(),
            }),
            log_tail: "first\nsecond\u{7}\n".into(),
            log_is_cut: true,
            others: 41,
            others_at_least: false,
            redrive_version: 4,
            redrive_command: "tq dead redrive 01980c5e".into(),
        }
    }

    #[test]
    fn card_says_what_happened_at_a_glance() {
        let expected = "\
dead 01980c5e of mail/send, version 3
died 2023-11-14T22:13:20.000Z in namespace default, in round 2

memory_limit: memory is limited\\u{1b}[2J

  fuel     ██████░░░░░░░░░░░░░░░░░░  2,500,000,000 of 10,000,000,000
! memory   ████████████████████████  128.0 MiB of 128 MiB
  timeout  █░░░░░░░░░░░░░░░░░░░░░░░  12.3 ms of 30s

backtrace, innermost first
  mail::grow
      at mail.rs:12

log of the last attempt, its last lines
  | first
  | second\\u{7}";
        assert_eq!(head(&card()), expected);
        let expected = "\
signature   b2ca8c25865d: 41 other dead letters died the same way
redrive     tq dead redrive 01980c5e
all of them tq dead redrive --signature b2ca8c25865d --dry-run
            (with version 4; it died with 3)";
        assert_eq!(foot(&card()), expected);
    }

    #[test]
    fn what_did_not_run_has_no_bars_but_those_of_its_task() {
        let mut lost = card();
        if let Some(task) = &mut lost.task {
            task.attempts[0].usage = None;
        }
        lost.tripped = vec![
            Tripped {
                limit: "losses".into(),
                used: Some(10),
                cap: 10,
                unit: String::new(),
            },
            Tripped {
                limit: "stack".into(),
                used: None,
                cap: 512 << 10,
                unit: "bytes".into(),
            },
        ];
        let task = lost.task.clone().expect("it has one");
        let full = "█".repeat(24);
        let expected = [
            format!("! losses   {full}  10 of 10"),
            format!("! stack    {full}  over 512 KiB"),
        ];
        assert_eq!(limits(&lost.tripped, &task), expected);
    }
}
