use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(7);
const CREATE: Open = Open {
    is_created: true,
    is_new: false,
    is_truncated: false,
    is_directory: false,
    is_written: true,
};

fn tree() -> Tree {
    Tree::new(1 << 20, Duration::ZERO)
}

impl Tree {
    fn create(&mut self, path: &str) -> Result<NodeId, Fault> {
        self.open(ROOT, path, CREATE, NOW)
    }

    fn make(&mut self, path: &str) -> Result<(), Fault> {
        self.make_directory(ROOT, path, NOW)
    }

    fn move_to(&mut self, old: &str, new: &str) -> Result<(), Fault> {
        self.rename(ROOT, old, ROOT, new, NOW)
    }

    /// All that is counted, counted again.
    fn cost(&self) -> u64 {
        let of = |node: &Node| match &node.kind {
            Kind::File(contents) => contents.cost(),
            Kind::Directory { entries, .. } => entries.keys().map(|name| name.len() as u64).sum(),
        };
        let nodes = (self.nodes.len() - 1) as u64 * SCRATCH_NODE_BYTES;
        nodes + self.nodes.values().map(of).sum::<u64>()
    }

    /// Every path, with the contents of files.
    fn listing(&self) -> Model {
        let mut found = Model::new();
        let mut directories = vec![(ROOT, String::new())];
        while let Some((directory, path)) = directories.pop() {
            let mut last: Option<String> = None;
            while let Some((name, is_directory)) =
                self.entry_after(directory, last.as_deref()).unwrap()
            {
                let path = format!("{path}{name}");
                let node = self.find(directory, name).unwrap();
                if is_directory {
                    directories.push((node, format!("{path}/")));
                }
                let contents = (!is_directory).then(|| self.read(node, 0, u64::MAX).unwrap());
                found.insert(path, contents);
                last = Some(name.to_owned());
            }
        }
        found
    }
}

/// A path for each file, with its contents, and for each directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Step {
    Write(String, u8),
    Make(String),
    RemoveDirectory(String),
    RemoveFile(String),
    Rename(String, String),
    /// Opens a file, removes it, writes to it and lets it go.
    Orphan(String),
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn is_directory(model: &Model, path: &str) -> bool {
    matches!(model.get(path), Some(None))
}

fn has_place(model: &Model, path: &str) -> bool {
    parent(path).is_none_or(|parent| is_directory(model, parent))
}

fn is_empty(model: &Model, path: &str) -> bool {
    let within = format!("{path}/");
    !model.keys().any(|path| path.starts_with(&within))
}

/// What a step does to plain paths. Returns whether it may be done.
fn apply(model: &mut Model, step: &Step) -> bool {
    let is_allowed = match step {
        Step::Write(path, _) => has_place(model, path) && !is_directory(model, path),
        Step::Make(path) => has_place(model, path) && !model.contains_key(path),
        Step::RemoveDirectory(path) => is_directory(model, path) && is_empty(model, path),
        Step::RemoveFile(path) | Step::Orphan(path) => matches!(model.get(path), Some(Some(_))),
        Step::Rename(old, new) => {
            let is_within = new.starts_with(&format!("{old}/"));
            let fits = match (is_directory(model, old), model.get(new)) {
                (_, None) => true,
                (true, Some(None)) => old == new || is_empty(model, new),
                (was, Some(is)) => was == is.is_none(),
            };
            model.contains_key(old) && has_place(model, new) && !is_within && fits
        }
    };
    if is_allowed {
        match step {
            Step::Write(path, byte) => {
                let contents = model.entry(path.clone()).or_insert(Some(Vec::new()));
                contents.as_mut().unwrap().push(*byte);
            }
            Step::Make(path) => drop(model.insert(path.clone(), None)),
            Step::RemoveDirectory(path) | Step::RemoveFile(path) | Step::Orphan(path) => {
                model.remove(path);
            }
            Step::Rename(old, new) => {
                let within = format!("{old}/");
                let moved = model
                    .extract_if(.., |path, _| path == old || path.starts_with(&within))
                    .collect::<Vec<_>>();
                for (path, contents) in moved {
                    model.insert(format!("{new}{}", &path[old.len()..]), contents);
                }
            }
        }
    }
    is_allowed
}

fn perform(tree: &mut Tree, step: &Step) -> Result<(), Fault> {
    match step {
        Step::Write(path, byte) => {
            let file = tree.create(path)?;
            assert_eq!(tree.write(file, None, &[*byte], NOW), Ok(1));
            Ok(())
        }
        Step::Make(path) => tree.make(path),
        Step::RemoveDirectory(path) => tree.remove_directory(ROOT, path, NOW),
        Step::RemoveFile(path) => tree.remove_file(ROOT, path, NOW),
        Step::Rename(old, new) => tree.move_to(old, new),
        Step::Orphan(path) => {
            let file = tree.find(ROOT, path)?;
            tree.hold(file);
            let removed = tree.remove_file(ROOT, path, NOW);
            tree.write(file, Some(100_000), b"unseen", NOW).ok();
            tree.let_go(file);
            removed
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(path, byte)| Step::Write(path, byte)),
        3 => path().prop_map(Step::Make),
        1 => path().prop_map(Step::RemoveDirectory),
        1 => path().prop_map(Step::RemoveFile),
        3 => (path(), path()).prop_map(|(old, new)| Step::Rename(old, new)),
        1 => path().prop_map(Step::Orphan),
    ]
}

proptest! {
    #[test]
    fn it_is_as_a_map_of_paths_would_be(steps in prop::collection::vec(step(), 1..60)) {
        let (mut tree, mut model) = (tree(), Model::new());
        for step in steps {
            let is_allowed = apply(&mut model, &step);
            let done = perform(&mut tree, &step);
            prop_assert_eq!(done.is_ok(), is_allowed, "{:?}: {:?}", step, done);
            prop_assert_eq!(tree.listing(), model.clone(), "{:?}", step);
            prop_assert_eq!(tree.space.used(), tree.cost(), "{:?}", step);
        }
    }
}

#[test]
fn paths_stay_inside_and_are_read_one_way() {
    let mut tree = tree();
    tree.make("d").unwrap();
    tree.make("d/e").unwrap();
    let file = tree.create("d/f").unwrap();
    let directory = tree.find(ROOT, "d").unwrap();
    let long = |len: usize| "n".repeat(len);
    let deep = "d/../".repeat(1_000);
    for (path, expected) in [
        ("", Err(Fault::Missing)),
        (".", Ok(ROOT)),
        ("./", Ok(ROOT)),
        ("d/..", Ok(ROOT)),
        ("d/e/../..", Ok(ROOT)),
        (".//d///./f", Ok(file)),
        ("d/e/../f", Ok(file)),
        ("d", Ok(directory)),
        ("d/", Ok(directory)),
        ("d/.", Ok(directory)),
        ("..", Err(Fault::Outside)),
        ("../scratch/d", Err(Fault::Outside)),
        ("d/../../d", Err(Fault::Outside)),
        ("/", Err(Fault::Outside)),
        ("/scratch/d", Err(Fault::Outside)),
        ("/etc/passwd", Err(Fault::Outside)),
        ("d/f/", Err(Fault::NotDirectory)),
        ("d/f/.", Err(Fault::NotDirectory)),
        ("d/f/..", Err(Fault::NotDirectory)),
        ("d/f/x", Err(Fault::NotDirectory)),
        ("x/..", Err(Fault::Missing)),
        ("d\\f", Err(Fault::Missing)),
        ("d/f\0", Err(Fault::Invalid)),
        (&long(255), Err(Fault::Missing)),
        (&long(256), Err(Fault::NameTooLong)),
        (&deep, Err(Fault::NameTooLong)),
        (&deep[..4_095], Ok(ROOT)),
    ] {
        assert_eq!(tree.find(ROOT, path), expected, "{path:?}");
    }
    // From a directory that a guest holds, the way back up ends there.
    assert_eq!(tree.find(directory, ".."), Err(Fault::Outside));
    assert_eq!(tree.find(directory, "e/../f"), Ok(file));
    assert_eq!(tree.find(file, "x"), Err(Fault::NotDirectory));
}

#[test]
fn files_are_opened_as_they_are_asked_for() {
    let mut tree = tree();
    let file = tree.create("f").unwrap();
    tree.write(file, Some(0), b"text", NOW).unwrap();
    tree.make("d").unwrap();
    let read = Open::default();
    let new = Open {
        is_new: true,
        ..CREATE
    };
    let emptied = Open {
        is_truncated: true,
        ..read
    };
    let directory = Open {
        is_directory: true,
        ..read
    };
    for (path, open, expected) in [
        ("f", read, Ok(4)),
        ("f", CREATE, Ok(4)),
        ("f", new, Err(Fault::Exists)),
        ("d", new, Err(Fault::Exists)),
        (".", new, Err(Fault::Exists)),
        ("f", directory, Err(Fault::NotDirectory)),
        ("d", directory, Ok(0)),
        ("d", read, Ok(0)),
        ("d", emptied, Err(Fault::IsDirectory)),
        ("d", CREATE, Err(Fault::IsDirectory)),
        ("x/", CREATE, Err(Fault::IsDirectory)),
        ("x/y", CREATE, Err(Fault::Missing)),
        ("x", emptied, Err(Fault::Missing)),
        ("x", read, Err(Fault::Missing)),
        ("x", new, Ok(0)),
        ("x", new, Err(Fault::Exists)),
        ("f", emptied, Ok(0)),
        (
            "d",
            Open {
                is_directory: true,
                ..CREATE
            },
            Err(Fault::Invalid),
        ),
    ] {
        let opened = tree.open(ROOT, path, open, NOW);
        let size = opened.map(|node| tree.stat(node).unwrap().size);
        assert_eq!(size, expected, "{path} {open:?}");
    }
}

#[test]
fn what_is_moved_or_removed_says_why_not() {
    let mut tree = tree();
    for path in ["d", "d/e", "empty", "full"] {
        tree.make(path).unwrap();
    }
    tree.create("f").unwrap();
    tree.create("full/f").unwrap();
    for (old, new, expected) in [
        ("d", "d/e/x", Err(Fault::Invalid)),
        ("d", "d/x", Err(Fault::Invalid)),
        ("d", "f", Err(Fault::NotDirectory)),
        ("f", "d", Err(Fault::IsDirectory)),
        ("f", "x/", Err(Fault::NotDirectory)),
        ("d", "full", Err(Fault::NotEmpty)),
        ("x", "y", Err(Fault::Missing)),
        ("f", "x/y", Err(Fault::Missing)),
        (".", "y", Err(Fault::Invalid)),
        ("d", "d/..", Err(Fault::Invalid)),
        ("f", "../y", Err(Fault::Outside)),
        ("f", "f", Ok(())),
        ("d", "d", Ok(())),
        ("d", "empty", Ok(())),
    ] {
        assert_eq!(tree.move_to(old, new), expected, "{old} to {new}");
    }
    let not = |fault| Err::<(), _>(fault);
    assert_eq!(
        tree.remove_directory(ROOT, "empty", NOW),
        not(Fault::NotEmpty)
    );
    assert_eq!(
        tree.remove_directory(ROOT, "f", NOW),
        not(Fault::NotDirectory)
    );
    assert_eq!(tree.remove_directory(ROOT, ".", NOW), not(Fault::Invalid));
    assert_eq!(
        tree.remove_file(ROOT, "empty", NOW),
        not(Fault::IsDirectory)
    );
    assert_eq!(tree.remove_file(ROOT, "f/", NOW), not(Fault::NotDirectory));
    assert_eq!(tree.make("f"), not(Fault::Exists));
    assert_eq!(tree.make("."), not(Fault::Exists));
}

#[test]
fn what_is_held_open_outlives_its_name() {
    let mut tree = tree();
    tree.make("d").unwrap();
    let directory = tree.find(ROOT, "d").unwrap();
    tree.hold(directory);
    let file = tree.create("d/f").unwrap();
    tree.hold(file);
    tree.remove_file(ROOT, "d/f", NOW).unwrap();
    tree.remove_directory(ROOT, "d", NOW).unwrap();
    assert_eq!(tree.write(file, None, b"still", NOW), Ok(5));
    assert_eq!(tree.read(file, 0, 9), Ok(b"still".to_vec()));
    assert!(!tree.stat(file).unwrap().is_linked);
    // A directory without a name can take nothing that nobody could ever remove.
    assert_eq!(tree.open(directory, "x", CREATE, NOW), Err(Fault::Missing));
    assert_eq!(
        tree.make_directory(directory, "x", NOW),
        Err(Fault::Missing)
    );
    tree.create("g").unwrap();
    assert_eq!(
        tree.rename(ROOT, "g", directory, "g", NOW),
        Err(Fault::Missing)
    );
    assert_eq!(tree.entry_after(directory, None), Ok(None));
    tree.remove_file(ROOT, "g", NOW).unwrap();
    assert!(tree.space.used() > 0);
    tree.let_go(file);
    tree.let_go(directory);
    assert_eq!((tree.space.used(), tree.nodes.len()), (0, 1));
}

#[test]
fn names_and_nodes_count() {
    let mut tree = Tree::new(10 * SCRATCH_NODE_BYTES, NOW);
    let made = (0..).map_while(|number| tree.create(&format!("{number}")).ok());
    assert_eq!(made.count(), 9);
    assert_eq!(tree.denied(), Some(10 * SCRATCH_NODE_BYTES + 10));
    // A name that is as long, or shorter, has room in a full directory.
    let rest = tree.limit() - tree.space.used();
    let long = "n".repeat(200);
    tree.move_to("0", &long).unwrap();
    assert_eq!(tree.limit() - tree.space.used(), rest - 199);
    tree.move_to("1", &long).unwrap();
    assert_eq!(
        tree.limit() - tree.space.used(),
        rest - 199 + 1 + SCRATCH_NODE_BYTES
    );
    assert_eq!(tree.space.used(), tree.cost());
}

#[test]
fn depth_costs_nothing_but_its_nodes() {
    const DEPTH: usize = 100_000;
    let mut tree = Tree::new(u64::MAX, NOW);
    let mut at = ROOT;
    for depth in 0..DEPTH {
        tree.make_directory(at, "d", NOW).unwrap();
        at = tree.find(at, "d").unwrap();
        // One that is held far down, to be moved from there.
        if depth == SCRATCH_RENAME_DEPTH_MAX - 2 {
            tree.make_directory(at, "last", NOW).unwrap();
        }
    }
    tree.make("x").unwrap();
    tree.create("f").unwrap();
    assert_eq!(tree.rename(ROOT, "x", at, "x", NOW), Err(Fault::TooDeep));
    // What has nothing below it cannot be moved into itself.
    assert_eq!(tree.rename(ROOT, "f", at, "f", NOW), Ok(()));
    drop(tree);
}

#[test]
fn listing_goes_on_while_entries_come_and_go() {
    let mut tree = tree();
    for name in ["a", "b", "c", "d"] {
        tree.create(name).unwrap();
    }
    assert_eq!(tree.entry_after(ROOT, Some("a")), Ok(Some(("b", false))));
    tree.remove_file(ROOT, "b", NOW).unwrap();
    tree.remove_file(ROOT, "c", NOW).unwrap();
    assert_eq!(tree.entry_after(ROOT, Some("b")), Ok(Some(("d", false))));
    assert_eq!(tree.entry_after(ROOT, Some("d")), Ok(None));
    let file = tree.find(ROOT, "a").unwrap();
    assert_eq!(tree.entry_after(file, None), Err(Fault::NotDirectory));
}

#[test]
fn times_say_what_changed_when() {
    let at = Duration::from_secs;
    let mut tree = Tree::new(1 << 20, at(1));
    let file = tree.open(ROOT, "f", CREATE, at(2)).unwrap();
    assert_eq!(tree.stat(file).unwrap().times, Times::all(at(2)));
    assert_eq!(tree.stat(ROOT).unwrap().times.modified, at(2));
    tree.write(file, None, b"x", at(3)).unwrap();
    tree.set_times(file, Some(at(9)), None, at(4)).unwrap();
    let times = tree.stat(file).unwrap().times;
    assert_eq!(
        (times.accessed, times.modified, times.changed),
        (at(9), at(3), at(4))
    );
    assert_eq!(tree.stat(ROOT).unwrap().times.accessed, at(1));
}
