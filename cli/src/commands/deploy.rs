//! `tq deploy`

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tq_client::{
    Client, Component, LimitOverrides, Module, PlacementSettings, RetryOverrides, RetypedFunction,
    Upload, UploadModuleResponse, WhichLive,
};
use tq_core::each_limit;

use crate::args::DeployArgs;
use crate::commands::{call, connect, describe};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::manifest::{self, Manifest};
use crate::output::{self, Format, json, table};
use crate::toolchain::{self, Artifact, Language};
use crate::unfinished::Built;
use crate::units::Size;

/// Pages of tasks that are counted for a warning.
const COUNTED_PAGES_MAX: usize = 10;

pub(crate) async fn run(config: &Config, args: DeployArgs) -> anyhow::Result<Exit> {
    let DeployArgs {
        path,
        name,
        deny_new_capabilities,
        limits,
        retry,
    } = args;
    // First, so that nobody waits for a build that cannot be deployed.
    let client = connect(config).await?;
    let to = format!("{} at {}", client.namespace(), client.url());
    let Deployable {
        component,
        mut upload,
        built,
    } = tokio::task::block_in_place(|| {
        let source = locate(&path, Build::UnlessUnfinished { to: &to })?;
        read(source, name.as_deref())
    })?;
    upload.deny_new_grants = deny_new_capabilities;
    upload.limits = limits_over(call::limits(limits)?, upload.limits);
    upload.retry = retry_over(call::retry(retry), upload.retry);
    let begun = tokio::task::block_in_place(|| built?.begin_upload(&to));
    let answer = upload_with_bar(&client, component, upload).await;
    // What was refused is built again, since that may be due to something else than the folder's source.
    if let Some(upload) = begun
        && !answer.as_ref().is_err_and(tq_client::Error::is_retryable)
    {
        upload.end();
    }
    let answer = answer?;
    let Some(module) = &answer.module else {
        return Err(lacking(&client).into());
    };
    let retyped = waited_for(&client, module, &answer.retyped).await?;
    match config.output.value {
        Format::Json => json::print(&json::Deployed {
            module: json::ModuleInfo::from(module),
            unchanged: answer.unchanged,
            not_granted: &answer.not_granted,
            newly_granted: &answer.newly_granted,
            adapted: answer.adapted,
            retyped: &retyped,
        })?,
        Format::Table => print(module, &answer)?,
    }
    for retyped in &retyped {
        warn(module, retyped);
    }
    Ok(Exit::Succeeded)
}

/// A component and what is said about it.
pub(crate) struct Deployable {
    pub(crate) component: Component,
    pub(crate) upload: Upload,
    /// What it was built of, if it was, and another build might make another one.
    pub(crate) built: Option<Built>,
}

/// Whether what is in a folder has to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build<'a> {
    Always,
    /// Unless it was, and the upload of that to the same place did not come to its end.
    UnlessUnfinished {
        to: &'a str,
    },
}

/// Builds what is at `path` if it is a folder, and reads it. Blocks the thread.
pub(crate) fn prepare(path: &Path, name: Option<&str>) -> anyhow::Result<Deployable> {
    read(locate(path, Build::Always)?, name)
}

fn read(source: Source, name: Option<&str>) -> anyhow::Result<Deployable> {
    let Source {
        path,
        name: found,
        manifest,
        built,
    } = source;
    let name = name.map(str::to_owned).or(manifest.name).unwrap_or(found);
    tq_core::name::check("module name", &name)
        .map_err(|error| Failure::usage(error.to_string()).hint("give another with --name"))?;
    let component = with_world(Component::read(&path)?)
        .with_context(|| format!("`{}` cannot be deployed", path.display()))?;
    let upload = Upload {
        name,
        limits: manifest.limits,
        retry: manifest.retry,
        functions: manifest.functions,
        placement: manifest.placement,
        grants: manifest.grants,
        deny_new_grants: false,
    };
    Ok(Deployable {
        component,
        upload,
        built,
    })
}

/// Makes a component of a core module that is bound to a world of its own, which the broker does for plain programs only.
fn with_world(component: Component) -> anyhow::Result<Component> {
    match tq_broker::modules::adapt_world(component.bytes()) {
        Ok(None) => Ok(component),
        Ok(Some(made)) => Ok(Component::from_bytes(made.into())?),
        Err(error) => Err(Failure::usage(error.to_string()).into()),
    }
}

/// As [`prepare`], for a broker and a host that are there for one command: on which host a task may run, and beside what, says nothing
/// where there is one host and one task. Blocks the thread.
pub(crate) fn prepare_for_here(path: &Path) -> anyhow::Result<Deployable> {
    let mut deployable = prepare(path, None)?;
    let Upload {
        functions,
        placement,
        ..
    } = &mut deployable.upload;
    *placement = PlacementSettings::default();
    for function in functions {
        function.placement = None;
    }
    Ok(deployable)
}

/// Uploads with a bar on a terminal.
pub(crate) async fn upload_with_bar(
    client: &Client,
    component: Component,
    upload: Upload,
) -> Result<UploadModuleResponse, tq_client::Error> {
    let bar: ProgressBar = output::upload_bar(component.size_bytes());
    let moved = bar.clone();
    let answer = client
        .upload_module(component, upload, move |sent| moved.set_position(sent))
        .await;
    bar.finish_and_clear();
    answer
}

/// The error for an answer that names no module.
pub(crate) fn lacking(client: &Client) -> tq_client::Error {
    tq_client::Error::Protocol {
        url: client.url().to_owned(),
        lacking: "module",
    }
}

/// The functions among `retyped` that tasks wait for, with their numbers.
async fn waited_for(
    client: &Client,
    module: &Module,
    retyped: &[RetypedFunction],
) -> Result<Vec<json::Retyped>, tq_client::Error> {
    let mut waited_for = Vec::new();
    for RetypedFunction {
        name,
        before,
        after,
    } in retyped
    {
        let which = WhichLive {
            function: Some(format!("{}/{name}", module.name)),
            ..WhichLive::default()
        };
        let (mut waiting, mut cursor) = (0_u64, String::new());
        // Only counted. What there is more than this is no other warning.
        for _ in 0..COUNTED_PAGES_MAX {
            let page = client.cancel_tasks(&which, true, &cursor).await?;
            waiting += u64::from(page.cancelled);
            cursor = page.next;
            if cursor.is_empty() {
                break;
            }
        }
        if waiting > 0 {
            waited_for.push(json::Retyped {
                function: name.clone(),
                before: before.clone(),
                after: (!after.is_empty()).then(|| after.clone()),
                waiting,
                are_more: !cursor.is_empty(),
            });
        }
    }
    Ok(waited_for)
}

fn warn(module: &Module, retyped: &json::Retyped) {
    let json::Retyped {
        function,
        before,
        after,
        waiting,
        are_more,
    } = retyped;
    let tasks = match (waiting, are_more) {
        (1, false) => "a task waits".to_owned(),
        (waiting, false) => format!("{waiting} tasks wait"),
        (waiting, true) => format!("more than {waiting} tasks wait"),
    };
    let name = output::escaped(function);
    let what = match after {
        Some(after) => format!(
            "`{name}` takes or gives something else now, and {tasks} for it\n  before: {}\n  now:    {}",
            output::escaped(before),
            output::escaped(after)
        ),
        None => format!(
            "`{name}` is gone, and {tasks} for it\n  before: {}",
            output::escaped(before)
        ),
    };
    output::note(format!(
        "warning: {what}\nhint: they run on the version that they were submitted for; `tq module rollback {}` makes that the current one again",
        module.name
    ));
}

/// A component on this disk.
struct Source {
    path: PathBuf,
    /// A name for it, if nothing else gives one.
    name: String,
    manifest: Manifest,
    built: Option<Built>,
}

fn locate(path: &Path, build: Build<'_>) -> anyhow::Result<Source> {
    if path.is_file() {
        check_is_no_source(path)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(Source {
            path: path.to_owned(),
            name,
            manifest: Manifest::default(),
            built: None,
        });
    }
    if !path.is_dir() {
        return Err(
            Failure::not_found(format!("there is no file or folder `{}`", path.display())).into(),
        );
    }
    let manifest = Manifest::read(path)?;
    let is_crate = path.join("Cargo.toml").is_file();
    if manifest.is_none() && !is_crate {
        let missing = format!(
            "folder `{}` has neither a `Cargo.toml` nor a `{}`",
            path.display(),
            manifest::FILE
        );
        return Err(Failure::usage(missing)
            .hint("`tq new NAME` makes a module; `tq deploy FILE.wasm --name NAME` takes one that is built")
            .into());
    }
    let manifest = manifest.unwrap_or_default();
    if let Some(artifact) = &manifest.artifact {
        let artifact = path.join(artifact);
        let mut built = None;
        if let Some(command) = &manifest.build {
            let of_folder = Built::new(path, artifact.clone());
            if !goes_on(build, &of_folder) {
                toolchain::run_build(path, command)?;
            }
            built = Some(of_folder);
        }
        if !artifact.is_file() {
            let missing = format!("artifact `{}` is not there", artifact.display());
            return Err(Failure::not_found(missing)
                .hint(format!(
                    "`artifact` in {} is relative to its folder",
                    manifest::FILE
                ))
                .into());
        }
        let name = artifact
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(Source {
            path: artifact,
            name,
            manifest,
            built,
        });
    }
    let language = manifest.language.or(is_crate.then_some(Language::Rust));
    let Some(language) = language else {
        let missing = format!(
            "`{}` names neither `language` nor `artifact`, and there is no Cargo.toml",
            path.join(manifest::FILE).display()
        );
        return Err(Failure::usage(missing)
            .hint("give the language, or the path of the component as `artifact`, under [module]")
            .into());
    };
    let built = toolchain::component_of(language, path);
    let built = built.map(|artifact| Built::new(path, artifact));
    let unfinished = built.as_ref().filter(|built| goes_on(build, built));
    let artifact = match unfinished {
        Some(built) => toolchain::built(path, built.artifact().to_owned())?,
        None => toolchain::build(language, path)?,
    };
    if artifact.has_sdk && manifest.functions.is_empty() {
        check_functions(path, &artifact.path)?;
    }
    let Artifact { path, name, .. } = artifact;
    Ok(Source {
        path,
        name,
        manifest,
        built,
    })
}

/// Whether what was built before is taken as it is, which is said.
fn goes_on(build: Build<'_>, built: &Built) -> bool {
    let goes_on = match build {
        Build::Always => false,
        Build::UnlessUnfinished { to } => built.is_unfinished(to),
    };
    if goes_on {
        output::note(format!(
            "nothing has changed since the upload of `{}` was interrupted; going on with it",
            built.artifact().display()
        ));
    }
    goes_on
}

/// Checks that a component with the SDK in it describes a function. The broker takes handlers that describe none, from
/// languages without an SDK; here it is a mistake.
fn check_functions(folder: &Path, component: &Path) -> anyhow::Result<()> {
    /// The section that the SDK's attribute writes.
    const SECTION: &[u8] = b"tq:functions";
    let bytes =
        fs::read(component).with_context(|| format!("failed to read `{}`", component.display()))?;
    if bytes.windows(SECTION.len()).any(|bytes| bytes == SECTION) {
        return Ok(());
    }
    let message = format!(
        "crate in `{}` has no function that can be called",
        folder.display()
    );
    Err(Failure::usage(message)
        .hint("put `#[tq_sdk::task]` over each function that tasks may call")
        .into())
}

/// Refuses a part of a module's source, for whose folder it was taken.
fn check_is_no_source(path: &Path) -> Result<(), Failure> {
    const FILES: [&str; 4] = ["Cargo.toml", "go.mod", "package.json", manifest::FILE];
    const EXTENSIONS: [&str; 6] = ["c", "go", "js", "py", "rs", "ts"];
    let is = |text: Option<&OsStr>, known: &[&str]| {
        known.iter().any(|known| text == Some(OsStr::new(known)))
    };
    if !is(path.file_name(), &FILES) && !is(path.extension(), &EXTENSIONS) {
        return Ok(());
    }
    let message = format!(
        "`{}` is no component, but a part of a module's source",
        path.display()
    );
    Err(Failure::usage(message).hint(format!(
        "give the folder that has its {} or Cargo.toml; in that folder, `tq deploy` is enough",
        manifest::FILE
    )))
}

/// The flags, and below them the manifest.
fn limits_over(upper: LimitOverrides, lower: LimitOverrides) -> LimitOverrides {
    macro_rules! over {
        ($($field:ident)+) => { LimitOverrides { $($field: upper.$field.or(lower.$field),)+ } };
    }
    each_limit!(over)
}

fn retry_over(upper: RetryOverrides, lower: RetryOverrides) -> RetryOverrides {
    RetryOverrides {
        max_attempts: upper.max_attempts.or(lower.max_attempts),
        backoff_ms: upper.backoff_ms.or(lower.backoff_ms),
        cap_ms: upper.cap_ms.or(lower.cap_ms),
    }
}

fn print(module: &Module, answer: &UploadModuleResponse) -> anyhow::Result<()> {
    let unchanged = if answer.unchanged { " (unchanged)" } else { "" };
    output::line(format!(
        "{}@{}{unchanged}  {}  {}\n",
        module.name,
        module.version,
        module.digest,
        Size(module.size_bytes)
    ))?;
    if answer.adapted {
        output::line("made of a program for WASI preview 1\n")?;
    }
    table::print_functions(module)?;
    table::print_uncallable(module)?;
    if !answer.newly_granted.is_empty() {
        output::line(format!(
            "\nnewly granted: {}",
            output::escaped(&answer.newly_granted.join(", "))
        ))?;
    }
    if !answer.not_granted.is_empty() {
        output::line(format!(
            "\nmay ask for, and is not granted: {}",
            answer.not_granted.join(", ")
        ))?;
    }
    if let Some(function) = module.functions.first() {
        output::line(format!(
            "\nrun it: {}",
            describe::run_line(module, function)
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(files: &[(&str, &str)], expected: &str) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("the folder can be written");
        }
        let Err(refused) = locate(folder.path(), Build::Always) else {
            panic!("`{files:?}` can be deployed");
        };
        let printed =
            crate::exit::text(&refused).replace(&folder.path().display().to_string(), "DIR");
        assert!(printed.starts_with(expected), "{printed}");
    }

    #[test]
    fn folder_that_is_no_module_is_refused() {
        check_refused(
            &[],
            "error: folder `DIR` has neither a `Cargo.toml` nor a `tq.toml`\nhint: ",
        );
        check_refused(
            &[("tq.toml", "[module]\nname = \"a\"")],
            "error: `DIR/tq.toml` names neither `language` nor `artifact`, and there is no Cargo.toml\nhint: ",
        );
        check_refused(
            &[("tq.toml", "[module]\nartifact = \"a.wasm\"")],
            "error: artifact `DIR/a.wasm` is not there\nhint: ",
        );
        check_refused(
            &[(
                "tq.toml",
                "[module]\nbuild = \"exit 3\"\nartifact = \"a.wasm\"",
            )],
            "error: build command `exit 3` ended with exit status: 3",
        );
    }

    #[test]
    fn part_of_a_source_is_refused_with_a_hint_at_its_folder() {
        for name in [
            "Cargo.toml",
            "tq.toml",
            "src/main.rs",
            "package.json",
            "src/app.py",
        ] {
            let refused = check_is_no_source(Path::new(name)).expect_err("it is no component");
            let printed = crate::exit::text(&refused.into());
            let expected = format!(
                "error: `{name}` is no component, but a part of a module's source\nhint: give the folder"
            );
            assert!(printed.starts_with(&expected), "{printed}");
        }
        assert!(check_is_no_source(Path::new("greet.wasm")).is_ok());
    }

    #[test]
    fn crate_with_the_sdk_and_no_function_is_refused() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let component = folder.path().join("a.wasm");
        fs::write(&component, b"\0asm tq:functions []").expect("the folder can be written");
        check_functions(Path::new("a"), &component).expect("it describes its functions");
        fs::write(&component, b"\0asm").expect("the folder can be written");
        let refused = check_functions(Path::new("a"), &component).expect_err("it has none");
        assert_eq!(
            crate::exit::text(&refused),
            "error: crate in `a` has no function that can be called\n\
             hint: put `#[tq_sdk::task]` over each function that tasks may call"
        );
    }

    #[test]
    fn manifest_can_build_with_any_tool() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let text = "[module]\nbuild = \"printf wasm > out.wasm\"\nartifact = \"out.wasm\"\n[limits]\nfuel = 7";
        fs::write(folder.path().join("tq.toml"), text).expect("the folder can be written");
        let Deployable {
            component, upload, ..
        } = prepare(folder.path(), None).expect("it can be built");
        assert_eq!(
            (
                component.size_bytes(),
                upload.name.as_str(),
                upload.limits.fuel
            ),
            (4, "out", Some(7))
        );
        let renamed = prepare(folder.path(), Some("other")).expect("it can be built");
        assert_eq!(renamed.upload.name, "other");
    }
}
