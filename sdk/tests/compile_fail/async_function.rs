#[tq_sdk::task]
async fn fetch(url: String) -> String {
    url
}

fn main() {}
