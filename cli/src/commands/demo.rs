//! `tq demo`

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use bytes::Bytes;
use tq_client::{Client, NewTask, Task, TaskState, Watch};

use crate::commands::deploy::{self, Deployable};
use crate::exit::{Exit, Failure};
use crate::nodes::{Isolation, Passing, StopSignals};
use crate::output::{self, json, table};
use crate::traceparent;
use crate::units::{Count, Size, nanoseconds};

/// The source tree that this binary was built from.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Tasks at once: one for each call of the demonstration.
const SLOTS: u32 = 3;

/// One call of the demonstration.
struct Call {
    function: &'static str,
    /// The file that it reads, below [`SOURCE`].
    file: &'static str,
    payload: Bytes,
    content_type: &'static str,
}

pub(crate) async fn run() -> anyhow::Result<Exit> {
    let source = Path::new(SOURCE);
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let examples = source.join("guest-examples");
    if !examples.is_dir() {
        return Err(Failure::not_found(format!("examples are not there: no folder `{}`", examples.display()))
            .hint("the demonstration builds them from the source tree of this binary; run it in a clone, with `cargo run --release -- demo`")
            .into());
    }
    let calls = calls(&source)?;

    let mut stop = StopSignals::listen()?;
    let pair = Passing::start(SLOTS, Isolation::None, Vec::new()).await?;
    let url = pair.url();
    output::note(format!(
        "a broker and a host are running at {url}, for as long as this takes"
    ));
    let shown = async { show(&url, &examples, calls).await.map(|()| Exit::Succeeded) };
    pair.during(&mut stop, Box::pin(shown)).await
}

async fn show(url: &str, examples: &Path, calls: Vec<Call>) -> anyhow::Result<()> {
    let client = Client::connect(url).await?;
    for example in ["word-count", "thumbnail"] {
        output::note(format!("building and deploying {example}"));
        let folder = examples.join(example);
        let Deployable {
            component, upload, ..
        } = tokio::task::block_in_place(|| deploy::prepare(&folder, None))?;
        deploy::upload_with_bar(&client, component, upload).await?;
    }
    output::note("running them");
    let mut tasks = Vec::new();
    for call in &calls {
        tasks.push(NewTask {
            function: call.function.to_owned(),
            payload: call.payload.clone(),
            content_type: call.content_type.to_owned(),
            traceparent: traceparent::current()?,
            ..NewTask::default()
        });
    }
    let ids: Vec<String> = client
        .submit(tasks)
        .await?
        .into_iter()
        .map(|task| task.id)
        .collect();
    let mut ended = Vec::new();
    let mut watching = client.watch(Watch::Ids(ids.clone()), true);
    while let Some(tasks) = watching.next().await? {
        ended.extend(tasks);
    }
    // They end in any order.
    ended.sort_by_key(|task| ids.iter().position(|id| *id == task.id));

    output::line("")?;
    let mut rows = Vec::new();
    for (task, call) in ended.iter().zip(&calls) {
        rows.push(row(task, call)?);
    }
    table::print(["function", "on", "result", "fuel", "memory", "time"], rows)?;
    if let Some(task) = ended
        .iter()
        .find(|task| task.state() != TaskState::Succeeded)
    {
        let why = task
            .attempts
            .last()
            .and_then(table::failure)
            .unwrap_or_default();
        return Err(Failure::new(
            Exit::Ended,
            format!("{} ended {}: {why}", task.function, task.outcome),
        )
        .into());
    }
    output::line(
        "\nEach call ran in a sandbox of its own, under limits on fuel, memory and time; its result was on disk before it was shown.",
    )?;
    output::line(
        "\nTo go on:
  cargo install --path cli          once, for `tq` itself; or write `cargo run --release --` for it
  tq dev                            a broker and a host that stay
  tq new greet && cd greet          in another terminal: a module of your own
  tq deploy
  tq run greet '{\"name\":\"Ada\"}'",
    )?;
    Ok(())
}

fn calls(source: &Path) -> anyhow::Result<Vec<Call>> {
    let read = |file: &'static str| -> anyhow::Result<Bytes> {
        let path = source.join(file);
        Ok(fs::read(&path)
            .with_context(|| format!("failed to read `{}`", path.display()))?
            .into())
    };
    let licence =
        String::from_utf8(read("LICENSE-APACHE")?.into()).context("the licence is not text")?;
    let top = serde_json::to_vec(&serde_json::json!({"text": licence, "n": 3}))?;
    let call = |function, file, payload, content_type| Call {
        function,
        file,
        payload,
        content_type,
    };
    Ok(vec![
        call(
            "word-count/count",
            "README.md",
            read("README.md")?,
            "text/plain",
        ),
        call(
            "word-count/top",
            "LICENSE-APACHE",
            top.into(),
            "application/json",
        ),
        call(
            "thumbnail",
            "guest-examples/thumbnail/sample.png",
            read("guest-examples/thumbnail/sample.png")?,
            "image/png",
        ),
    ])
}

fn row(task: &Task, call: &Call) -> anyhow::Result<[String; 6]> {
    let usage = task
        .attempts
        .last()
        .and_then(|attempt| attempt.usage)
        .unwrap_or_default();
    let result = match (&task.result, task.state()) {
        (Some(result), TaskState::Succeeded) => match std::str::from_utf8(result) {
            Ok(text) => text.to_owned(),
            Err(_) => format!(
                "{} in {}",
                Size(result.len() as u64),
                keep(result)?.display()
            ),
        },
        (_, state) => format!("{} ({})", json::state(state), task.outcome),
    };
    Ok([
        call.function.to_owned(),
        call.file.rsplit('/').next().unwrap_or(call.file).to_owned(),
        result,
        Count(usage.fuel).to_string(),
        Size(usage.memory_bytes_peak).to_string(),
        nanoseconds(usage.wall_ns),
    ])
}

/// Keeps the picture where it outlives the demonstration, so that it can be looked at.
fn keep(picture: &[u8]) -> anyhow::Result<PathBuf> {
    // A name of its own: a fixed one in a shared folder could be somebody else's link.
    let mut file = tempfile::Builder::new()
        .prefix("thumbnail-")
        .suffix(".png")
        .tempfile()?;
    io::Write::write_all(&mut file, picture)?;
    Ok(file.keep()?.1)
}
