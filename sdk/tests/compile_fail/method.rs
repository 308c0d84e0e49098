struct Shop;

impl Shop {
    #[tq_sdk::task]
    fn order(&self, item: String) -> String {
        item
    }
}

fn main() {}
