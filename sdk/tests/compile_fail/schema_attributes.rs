use tq_sdk::Schema;

#[derive(serde::Deserialize, Schema)]
#[serde(tag = "kind")]
enum Tagged {
    A { a: u8 },
}

#[derive(serde::Deserialize, Schema)]
struct Flat {
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, u8>,
}

#[derive(serde::Deserialize, Schema)]
struct OtherForm {
    #[serde(default, deserialize_with = "read")]
    number: u8,
}

fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    serde::Deserialize::deserialize(from)
}

#[derive(serde::Deserialize, Schema)]
struct TwoNames {
    #[serde(rename(deserialize = "in", serialize = "out"))]
    number: u8,
}

#[derive(serde::Deserialize, Schema)]
struct Gap(u8, #[serde(skip)] u8);

#[derive(Schema)]
struct NoSuchAttribute {
    #[schema(minimum = 1)]
    number: u8,
}

#[derive(Schema)]
union NoSchema {
    a: u8,
    b: i8,
}

#[derive(Schema)]
enum Never {}

fn main() {}
