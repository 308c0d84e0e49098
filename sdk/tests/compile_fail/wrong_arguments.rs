use tq_sdk::Context;

#[tq_sdk::task]
fn add(a: String, b: String) -> String {
    a + &b
}

#[tq_sdk::task]
fn log(text: String, cx: Context) {
    cx.log(tq_sdk::Level::Info, text);
}

#[tq_sdk::task]
fn join(_cx: Context, a: String, b: String) -> String {
    a + &b
}

fn main() {}
