use tq_sdk::{Context, Json};

struct Order;

#[tq_sdk::task]
fn double(number: u32) -> String {
    (number * 2).to_string()
}

#[tq_sdk::task]
fn order(_cx: Context, Json(_order): Json<Order>) {}

fn main() {}
