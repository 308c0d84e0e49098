//! Deploys a module, has it find the most frequent words of a text, and shows what an error is like.
//!
//! `cargo run --release --package tq-client --example top_words -- word-count.wasm`

use std::path::Path;

use tq_client::{Client, Component, Error, NewTask, Upload, Watch};

const TEXT: &str = "To be, or not to be, that is the question";

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it shows what it found")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name the component")?;
    for line in top_words("http://127.0.0.1:7171", Path::new(&component)).await? {
        println!("{line}");
    }
    Ok(())
}

/// Does it, and says what came of it.
pub(crate) async fn top_words(url: &str, component: &Path) -> Result<Vec<String>, Error> {
    let client = Client::connect(url).await?;
    let mut said = Vec::new();

    let upload = Upload {
        name: "word-count".into(),
        ..Upload::default()
    };
    let component = Component::read(component)?;
    let uploaded = client.upload_module(component, upload, |_| {}).await?;
    let module = uploaded.module.unwrap_or_default();
    said.push(format!("deployed {}@{}", module.name, module.version));

    // Submit and wait in one.
    let task = |function: &str, payload: String| NewTask {
        function: function.into(),
        payload: payload.into(),
        priority: Some(200),
        ..NewTask::default()
    };
    let top = format!(r#"{{"text": "{TEXT}", "n": 2}}"#);
    let ended = client.run(task("word-count/top", top)).await?;
    said.push(format!("{} {}", ended.outcome, text(&ended.result)));

    // Submit many now, and wait for all of them later.
    let counts = ["one", "one two"].map(|text| task("word-count/count", text.into()));
    let submitted = client.submit(counts.into()).await?;
    let ids = submitted.into_iter().map(|task| task.id).collect();
    let mut watch = client.watch(Watch::Ids(ids), true);
    let mut results = Vec::new();
    while let Some(ended) = watch.next().await? {
        results.extend(ended.iter().map(|task| text(&task.result)));
    }
    results.sort();
    said.extend(results);

    match client.run(task("word-count/topp", String::new())).await {
        Err(error @ Error::NotFound { .. }) => said.push(format!("refused: {error}")),
        ended => drop(ended?),
    }
    Ok(said)
}

fn text(result: &Option<bytes::Bytes>) -> String {
    String::from_utf8_lossy(result.as_deref().unwrap_or_default()).into_owned()
}
