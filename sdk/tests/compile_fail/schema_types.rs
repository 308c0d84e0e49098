use tq_sdk::Schema;

struct Foreign;

#[derive(Schema)]
struct Holder {
    number: u8,
    foreign: Vec<Foreign>,
}

#[derive(Schema)]
struct Tree {
    branches: Vec<Tree>,
}

#[derive(Schema)]
enum List {
    End,
    Cons(u8, Box<Self>),
}

fn main() {}
