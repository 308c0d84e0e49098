use serde::{Deserialize, Serialize};
use tq_sdk::{Error, Json, Result, Schema};

#[derive(Deserialize, Schema)]
struct Person {
    name: String,
}

#[derive(Debug, PartialEq, Schema, Serialize)]
struct Greeting {
    greeting: String,
}

/// Greets a person by name.
#[tq_sdk::task]
fn greet(Json(person): Json<Person>) -> Result<Json<Greeting>> {
    let name = person.name.trim();
    if name.is_empty() {
        // The payload is wrong, so that trying again would not help.
        return Err(Error::invalid_input("field `name` is empty"));
    }
    Ok(Json(Greeting {
        greeting: format!("Hello, {name}!"),
    }))
}

fn main() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_greeted_by_name() {
        let greeting = greet(Json(Person {
            name: "Ada".to_owned(),
        }));
        assert_eq!(
            greeting,
            Ok(Json(Greeting {
                greeting: "Hello, Ada!".to_owned()
            }))
        );
    }

    #[test]
    fn an_empty_name_is_refused() {
        let greeting = greet(Json(Person {
            name: " ".to_owned(),
        }));
        assert_eq!(greeting, Err(Error::invalid_input("field `name` is empty")));
    }
}
