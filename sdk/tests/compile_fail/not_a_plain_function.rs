#[tq_sdk::task]
struct Order;

#[tq_sdk::task]
unsafe fn danger() {}

#[tq_sdk::task]
extern "C" fn foreign() {}

#[tq_sdk::task(timeout = "3s")]
fn limited() {}

fn main() {}
