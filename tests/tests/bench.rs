//! `tq bench` measures with the real processes, and what it prints can be read again, by programs and by itself.

use std::path::Path;

use serde_json::Value;
use tq_tests::Tq;

/// What a program finds in a report without knowing its order.
#[track_caller]
fn value(report: &Value, id: &str) -> f64 {
    let figures = report["figures"].as_array().expect("there are figures");
    figures
        .iter()
        .find(|figure| figure["id"] == id)
        .and_then(|figure| figure["value"].as_f64())
        .unwrap_or_else(|| panic!("there is no figure `{id}`: {report}"))
}

/// Every figure of a report is explained in the reference.
#[track_caller]
fn check_explained(report: &Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/figures.md");
    let page = std::fs::read_to_string(path).expect("the reference is there");
    let figures = report["figures"].as_array().expect("there are figures");
    let missing: Vec<_> = figures
        .iter()
        .filter_map(|figure| figure["id"].as_str())
        .filter(|id| !page.contains(&format!("`{id}`")))
        .collect();
    assert!(missing.is_empty(), "not in the reference: {missing:?}");
}

async fn run(folder: &Path, words: &[&str]) -> tq_tests::Ran {
    let bench = ["bench"].into_iter().chain(words.iter().copied());
    Tq::default().inside(folder).run(bench).await
}

#[tokio::test]
async fn figures_stand_beside_their_floors_and_can_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let words = "throughput latency --quick --tasks 2k --slots 2 --seed 7 --dir . --output json";
    let ran = run(path, &words.split(' ').collect::<Vec<_>>()).await;
    ran.ok();
    let report = ran.json();
    for id in [
        "engine.tasks_per_second",
        "sandbox.cpu_per_task",
        "store.rows_per_second_by_100",
        "rpc.streamed_per_second",
        "disk.sync_p50",
        "throughput.tasks_per_second",
        "throughput.submit_p50",
        "throughput.cpu_per_task",
        "throughput.broker_resident_peak",
        "latency.p50",
        "latency.p99",
    ] {
        assert!(value(&report, id) > 0.0, "{id}: {report}");
    }
    check_explained(&report);
    assert_eq!(report["seed"], 7);
    assert_eq!(report["setting"]["slots"], 2);
    assert_eq!(report["setting"]["sizes"]["throughput.tasks"], 2_000);
    let share = report["figures"]
        .as_array()
        .and_then(|figures| {
            figures
                .iter()
                .find(|figure| figure["id"] == "throughput.tasks_per_second")
        })
        .map(|figure| (&figure["floor_id"], figure["share"].as_f64()));
    let (floor, share) = share.expect("it was looked at before");
    assert_eq!(floor, "engine.tasks_per_second");
    assert!(share.is_some_and(|share| share > 0.0), "{report}");
    let left: Vec<_> = std::fs::read_dir(path).unwrap().collect();
    assert!(left.is_empty(), "it left something behind: {left:?}");

    let old = path.join("old.json");
    std::fs::write(&old, &ran.stdout).unwrap();
    // The same against itself: nothing differs.
    let same = run(path, &["--read", "old.json", "--compare", "old.json"]).await;
    let text = same.text();
    assert!(text.starts_with("the set-ups are the same\n"), "{text}");
    let line = text.lines().find(|line| line.starts_with("latency.p50 "));
    assert!(line.is_some_and(|line| line.ends_with("1.00")), "{text}");

    // A set-up that differs is named, and so are figures that only one of the two has.
    let mut other = report.clone();
    other["setting"]["slots"] = 9.into();
    other["figures"] = Value::Array(Vec::new());
    std::fs::write(path.join("other.json"), other.to_string()).unwrap();
    let words = ["--read", "other.json", "--compare", "old.json"];
    let compared = run(path, &[&words[..], &["--output", "json"]].concat()).await;
    compared.ok();
    let compared = compared.json();
    let comparison = &compared["comparison"];
    assert_eq!(comparison["differences"][0]["what"], "slots");
    assert_eq!(comparison["differences"][0]["old"], 2);
    assert_eq!(comparison["figures"][0]["new"], Value::Null);
    assert_eq!(compared["setting"]["slots"], 9);
}

#[tokio::test]
async fn nodes_are_restarted_and_tenants_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let words = "cold-start backlog waiting tenants connections access --quick --waiting 2k --tasks 1k --output json";
    let ran = run(folder.path(), &words.split(' ').collect::<Vec<_>>()).await;
    ran.ok();
    let report = ran.json();
    for id in [
        "cold_start.new_module_p50",
        "cold_start.after_host_restart_p50",
        "backlog.tasks_per_second",
        "backlog.broker_restart",
        "tenants.small_p50",
        "waiting.tasks_per_second",
        "connections.kept_p50",
    ] {
        assert!(value(&report, id) > 0.0, "{id}: {report}");
    }
    check_explained(&report);
    // A slot that waits cannot do more in a second than its tasks' own time lets it.
    let share =
        value(&report, "waiting.tasks_per_second") / value(&report, "waiting.slots_over_span");
    assert!(share <= 1.0, "{report}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("other.json"), "{}").unwrap();
    for (words, code, expected) in [
        ("troughput", 2, "a similar value exists: 'throughput'"),
        ("latency --waiting 5", 2, "--waiting has no effect"),
        (
            "latency --compare other.json",
            2,
            "is no report of `tq bench`",
        ),
        ("latency --compare none.json", 3, "there is no file"),
        ("--read other.json --tasks 5", 2, "cannot be used with"),
        ("latency --dir none", 1, "failed to make a folder in `none`"),
        (
            "backlog --broker 127.0.0.1:1",
            2,
            "`backlog` needs nodes of its own",
        ),
    ] {
        let ran = run(path, &words.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(ran.code, Some(code), "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{words}: {}", ran.stderr);
    }
    let listed = run(path, &["--list"]).await.text();
    assert!(
        listed.lines().any(|line| line.starts_with("cold-start ")),
        "{listed}"
    );
}
