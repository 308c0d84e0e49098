use tq_sdk::{Json, Result};

struct Total;

#[tq_sdk::task]
fn count(text: String) -> usize {
    text.len()
}

#[tq_sdk::task]
fn sum(_numbers: String) -> Result<Json<Total>> {
    Ok(Json(Total))
}

#[tq_sdk::task]
fn parse(text: String) -> Result<String, String> {
    Err(text)
}

fn main() {}
