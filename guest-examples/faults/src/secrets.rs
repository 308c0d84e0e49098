//! Functions that tell what they were trusted with.

use tq_sdk::{Context, Error, Result};

/// Tells a secret to everyone who could hear it, and returns how long it is, and itself.
#[tq_sdk::task]
fn tell_secret(cx: Context, name: &str) -> Result<String> {
    let secret = cx.secret(name).map_err(Error::fatal)?;
    let text = secret.as_str()?;
    cx.progress(0.5, format!("the secret is {text}"));
    println!("printed: {text}");
    cx.log(tq_sdk::Level::Info, format!("logged: {text}"));
    Ok(format!("{} bytes: {text}", secret.as_bytes().len()))
}

/// Fails, and says a secret in its last words.
#[tq_sdk::task]
fn fail_with_secret(cx: Context, name: &str) -> Result<()> {
    let secret = cx.secret(name).map_err(Error::fatal)?;
    Err(Error::fatal(format!("died of {}", secret.as_str()?)))
}

/// Panics, and says a secret in its last words.
#[tq_sdk::task]
fn panic_with_secret(cx: Context, name: &str) -> Result<()> {
    let secret = cx.secret(name).map_err(Error::fatal)?;
    panic!("died of {}", secret.as_str()?);
}
