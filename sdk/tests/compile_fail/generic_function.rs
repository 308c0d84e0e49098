#[tq_sdk::task]
fn echo<T>(payload: T) -> T {
    payload
}

#[tq_sdk::task]
fn shout(text: impl Into<String>) -> String {
    text.into().to_uppercase()
}

#[tq_sdk::task]
fn whisper(text: String) -> impl Into<String> {
    text.to_lowercase()
}

fn main() {}
