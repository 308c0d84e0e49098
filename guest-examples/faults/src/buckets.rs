//! Functions that read and change buckets.

use serde::{Deserialize, Serialize};
use tq_sdk::keyvalue::Bucket;
use tq_sdk::{Error, Json, Result};

#[derive(Deserialize)]
struct Pair {
    bucket: String,
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Serialize)]
struct Page {
    keys: Vec<String>,
    next: Option<String>,
}

fn open(name: &str) -> Result<Bucket> {
    Bucket::open(name).map_err(Error::fatal)
}

/// Sets a key.
#[tq_sdk::task]
fn set_key(Json(pair): Json<Pair>) -> Result<()> {
    let bucket = open(&pair.bucket)?;
    bucket.set(&pair.key, pair.value).map_err(Error::fatal)
}

/// Returns the value of a key.
#[tq_sdk::task]
fn get_key(Json(pair): Json<Pair>) -> Result<Vec<u8>> {
    let found = open(&pair.bucket)?.get(&pair.key);
    let found = found.map_err(Error::fatal)?;
    found.ok_or_else(|| Error::fatal("it is not there"))
}

/// Adds 1 to a number a hundred times, and as often by reading and swapping, and returns what both came to.
#[tq_sdk::task]
fn count_up(bucket: &str) -> Result<String> {
    let bucket = open(bucket)?;
    let mut sum = 0;
    for _ in 0..100 {
        sum = bucket.increment("added", 1).map_err(Error::fatal)?;
        let plus_one = |value: Option<Vec<u8>>| {
            let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
            (text.parse().unwrap_or(0) + 1).to_string().into_bytes()
        };
        bucket.update("swapped", plus_one).map_err(Error::fatal)?;
    }
    let swapped = bucket.get("swapped").map_err(Error::fatal)?;
    let swapped = String::from_utf8(swapped.unwrap_or_default())?;
    Ok(format!("{sum} {swapped}"))
}

/// Counts up until there is a key `stop`, and returns how far it came, and what ended it if it was something else.
#[tq_sdk::task]
fn count_until_stopped(bucket: &str) -> Result<String> {
    let bucket = open(bucket)?;
    for done in 0.. {
        let counted = bucket.increment("count", 1);
        match counted.and_then(|_| bucket.exists("stop")) {
            Ok(false) => {}
            Ok(true) => return Ok((done + 1).to_string()),
            Err(error) => return Ok(format!("{done} {error}")),
        }
    }
    Ok(String::new())
}

/// Does everything that there is to do with a bucket, which is empty before and after.
#[tq_sdk::task]
fn exercise_bucket(bucket: &str) -> Result<String> {
    let bucket = open(bucket)?;
    let all = || -> std::result::Result<String, tq_sdk::keyvalue::Error> {
        let large = vec![7; 64 << 10];
        bucket.set("a", &large)?;
        bucket.set_many(&[("b", b"1"), ("c", b""), ("a", b"small")])?;
        let mut told = vec![format!("{:?}", bucket.get_many(&["a", "c", "z"])?)];
        told.push(format!("{:?}", (bucket.exists("c")?, bucket.exists("z")?)));
        told.push(format!("{:?}", bucket.keys(None)?.keys));
        told.push(format!("{:?}", bucket.keys(Some("a"))?.keys));
        told.push(format!("{:?}", bucket.increment("b", -3)?));
        told.push(format!(
            "{:?}",
            bucket.increment("a", 1).map_err(|error| error.to_string())
        ));
        bucket.delete("a")?;
        bucket.delete_many(&["b", "c", "z"])?;
        told.push(format!("{:?} {:?}", bucket.get("a")?, bucket.keys(None)?));
        Ok(told.join("\n"))
    };
    all().map_err(Error::fatal)
}

/// Asks for what is over every limit, and returns what it was told.
#[tq_sdk::task]
fn ask_too_much(bucket: &str) -> Result<String> {
    let bucket = open(bucket)?;
    let long = "k".repeat(513);
    let huge = "k".repeat(8 << 20);
    let large = vec![0; (64 << 10) + 1];
    let many = vec!["k"; 1001];
    let whole = vec![0; 64 << 10];
    let pairs: Vec<(String, &[u8])> = (0..17).map(|n| (n.to_string(), &whole[..])).collect();
    let pairs: Vec<(&str, &[u8])> = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), *value))
        .collect();
    let told = [
        bucket.set(&long, "v"),
        bucket.get(&long).map(drop),
        bucket.set(&huge, "v"),
        bucket.set("k", &large),
        bucket.delete_many(&many),
        bucket.set_many(&pairs),
        bucket.keys(Some(&huge)).map(drop),
        Bucket::open("no name!").map(drop),
    ];
    let told = told.map(|told| match told {
        Ok(()) => "it was done".to_owned(),
        Err(error) => error.to_string(),
    });
    Ok(told.join("\n"))
}

/// Sets keys until one is refused, and returns how many there are and why.
#[tq_sdk::task]
fn fill_bucket(bucket: &str) -> Result<String> {
    let bucket = open(bucket)?;
    let value = vec![0; 64 << 10];
    for n in 0.. {
        let keys: Vec<String> = (0..15).map(|part| format!("{n:05}-{part:02}")).collect();
        let pairs: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &value[..])).collect();
        if let Err(error) = bucket.set_many(&pairs) {
            return Ok(format!("{} {error}", n * 15));
        }
    }
    Ok(String::new())
}

/// A page of keys.
#[tq_sdk::task]
fn list_keys(bucket: &str) -> Result<Json<Page>> {
    let page = open(bucket)?.keys(None).map_err(Error::fatal)?;
    Ok(Json(Page {
        keys: page.keys,
        next: page.next,
    }))
}
