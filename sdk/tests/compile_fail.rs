//! What an author reads when a task is not written as it has to be: a message in the words of tq, at the place of the mistake.

#[test]
fn mistakes_are_explained_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
