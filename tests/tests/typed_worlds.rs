//! Random types survive: JSON becomes values, goes through a guest of that type that gives them back, and is the same JSON
//! again; the broker reads the types that were meant, and the schema that it shows accepts the values.
//!
//! `TQ_WORLDS=5000` tries as many, and `TQ_WORLDS_SEED=N` what a failure names.

use std::sync::LazyLock;

use anyhow::{Context as _, ensure};
use arbitrary::Unstructured;
use boon::{Compiler, Draft, Schemas};
use bytes::Bytes;
use serde_json::Value as Json;
use tq_broker::modules::Inspected;
use tq_core::limits::TYPED_DEPTH_MAX;
use tq_core::{Limits, Outcome};
use tq_host::floor;
use tq_host::sandbox::Engine;
use tq_tests::Random;
use tq_typed::{Function, Type};
use tq_worlds::echo::{self, Place};

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(1).expect("this machine runs guests"));

/// Worlds in the normal run.
const WORLDS: u64 = 200;
/// Types in a world, each with a function.
const TYPES_MAX: u64 = 4;
/// Values of each type.
const VALUES: usize = 4;
/// From which a world is drawn.
const BYTES: usize = 64 * 1024;

fn from_environment(name: &str) -> anyhow::Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => {
            let number = text.parse();
            number
                .map(Some)
                .with_context(|| format!("{name} is `{text}`"))
        }
        Err(_) => Ok(None),
    }
}

#[test]
fn values_of_random_types_come_back_as_they_were() -> anyhow::Result<()> {
    let worlds = from_environment("TQ_WORLDS")?.unwrap_or(WORLDS);
    let first = from_environment("TQ_WORLDS_SEED")?;
    // Another sequence with each run; a failure names where in it the world is.
    let first = first.unwrap_or_else(|| u64::from(std::process::id()) << 32);
    let (mut deepest, mut refused) = (0, 0);
    for seed in first..first + worlds {
        let depth = check(seed).with_context(|| format!("TQ_WORLDS_SEED={seed} TQ_WORLDS=1"))?;
        deepest = deepest.max(depth.unwrap_or(0));
        refused += u64::from(depth.is_none());
    }
    ensure!(refused <= 1 + worlds / 10, "{refused} were too large");
    ensure!(
        worlds < WORLDS || deepest == TYPED_DEPTH_MAX,
        "no type was nested deeper than {deepest} levels"
    );
    Ok(())
}

/// Draws a world and tries it. How deep its types are nested; none if they are more than a module may have.
fn check(seed: u64) -> anyhow::Result<Option<usize>> {
    let mut random = Random::new(seed);
    let bytes: Vec<u8> = (0..BYTES / 8)
        .flat_map(|_| random.draw().to_le_bytes())
        .collect();
    let count = random.between(1..TYPES_MAX + 1) as usize;
    let mut choices = Unstructured::new(&bytes);
    // A function's record is the first level.
    let types = tq_worlds::types(&mut choices, count, 2)?;
    let place = Place::ALL[random.between(0..Place::ALL.len() as u64) as usize];
    let made = echo::component(&types, place);
    let (wit, component) = made.with_context(|| format!("making {types:?} in {place:?}"))?;
    let inspected = match tq_broker::modules::inspect(&component, &[]) {
        Err(error) if error.to_string().contains("over the limit of") => return Ok(None),
        inspected => inspected.with_context(|| format!("inspecting {wit}"))?,
    };
    tried(&types, &component, &inspected, &mut choices).with_context(|| format!("in {wit}"))?;
    Ok(types.iter().map(|ty| 1 + depth(ty)).max())
}

fn depth(ty: &Type) -> usize {
    1 + ty.children().into_iter().map(depth).max().unwrap_or(0)
}

fn tried(
    types: &[Type],
    component: &[u8],
    inspected: &Inspected,
    choices: &mut Unstructured<'_>,
) -> anyhow::Result<()> {
    ensure!(
        inspected.uncallable.is_empty() && inspected.functions.len() == types.len(),
        "{inspected:?}"
    );
    let mut names = Vec::new();
    let mut calls = Vec::new();
    let mut expected = Vec::new();
    for (index, ty) in types.iter().enumerate() {
        let name = format!("echo{index}");
        let function = echo::function(index, ty);
        let found = inspected.functions.iter().find(|found| found.name == name);
        let typed = found.and_then(|found| found.typed.as_ref());
        let typed = typed.with_context(|| format!("{name} was not found"))?;
        ensure!(
            typed.function == function,
            "meant {function:?}, read {:?}",
            typed.function
        );
        let mut payloads = vec![function.example().into_bytes()];
        for _ in 0..VALUES {
            let value = echo::value(tq_worlds::value(choices, ty)?);
            let mut payload = b"{\"it\":".to_vec();
            payload.extend(tq_typed::json(
                &echo::record(index, ty),
                &value,
                usize::MAX,
            )?);
            payload.push(b'}');
            payloads.push(payload);
        }
        schemas_hold(&function, &payloads)?;
        for payload in payloads {
            expected.push(result_of(&payload)?.to_vec());
            names.push(name.clone());
            calls.push(Bytes::from(payload));
        }
    }
    let calls: Vec<_> = names.iter().map(String::as_str).zip(calls).collect();
    let ended = floor::calls(&ENGINE, component, &calls, Limits::DEFAULT)?;
    for (((function, payload), expected), ended) in calls.iter().zip(expected).zip(ended) {
        let payload = String::from_utf8_lossy(payload);
        ensure!(
            ended.outcome == Outcome::Succeeded,
            "{function} of {payload} ended {}: {:?}",
            ended.outcome,
            ended.failure
        );
        let result = ended.result.unwrap_or_default();
        ensure!(
            result == expected,
            "{function} of {payload} gave {}",
            String::from_utf8_lossy(&result)
        );
    }
    Ok(())
}

/// What the function of this payload gives: its only argument, as it is written.
fn result_of(payload: &[u8]) -> anyhow::Result<&[u8]> {
    let inside = payload.strip_prefix(b"{\"it\":");
    let inside = inside.and_then(|payload| payload.strip_suffix(b"}"));
    inside.context("the argument has another name")
}

/// Checks payloads and results with a validator that knows nothing of tq.
fn schemas_hold(function: &Function, payloads: &[Vec<u8>]) -> anyhow::Result<()> {
    for (schema, is_input) in [
        (function.input_schema(), true),
        (function.output_schema(), false),
    ] {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_content_assertions();
        compiler
            .add_resource("types.json", schema.clone())
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let compiled = compiler
            .compile("types.json", &mut schemas)
            .map_err(|error| anyhow::anyhow!("{error}: {schema}"))?;
        for payload in payloads {
            let document = if is_input {
                payload
            } else {
                result_of(payload)?
            };
            let document: Json = serde_json::from_slice(document)?;
            let valid = schemas.validate(&document, compiled);
            let valid = valid.map_err(|error| anyhow::anyhow!("{error}"));
            valid.with_context(|| format!("{document} under {schema}"))?;
        }
    }
    Ok(())
}
