//! Who may do what. One function decides, for every call of every interface.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::name::{self, DEFAULT_NAMESPACE, NameError};

/// What a credential is for. The roles of people and programs are steps: each may do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs tasks: a node, and nothing else.
    Host,
    /// Looks, and changes nothing.
    Viewer,
    /// Submits tasks and acts on them.
    Submitter,
    /// Deploys modules, and sets up what they run with.
    Deployer,
    /// Decides who may do what.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 5] = [
        Self::Host,
        Self::Viewer,
        Self::Submitter,
        Self::Deployer,
        Self::Admin,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }

    /// Whether it includes an action.
    #[must_use]
    pub fn may(self, action: Action) -> bool {
        match action {
            Action::Identify => true,
            Action::Work => self == Self::Host,
            Action::Read => self >= Self::Viewer,
            Action::Submit => self >= Self::Submitter,
            Action::Deploy => self >= Self::Deployer,
            Action::Administer => self == Self::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A role that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`; there are `host`, `viewer`, `submitter`, `deployer` and `admin`")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let known = Self::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| UnknownRole(text.chars().take(80).collect::<String>()))
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Asks who one is, or what the interface is.
    Identify,
    /// Looks at tasks, results, modules, queues and settings.
    Read,
    /// Submits tasks, acts on them, and changes values in buckets.
    Submit,
    /// Changes modules, queues, secrets and breakers.
    Deploy,
    /// Changes who may do what, and how much.
    Administer,
    /// Takes tasks, and reports what became of them.
    Work,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 6] = [
        Self::Identify,
        Self::Read,
        Self::Submit,
        Self::Deploy,
        Self::Administer,
        Self::Work,
    ];

    /// What it is, after `may not`.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Identify => "identify itself",
            Self::Read => "read",
            Self::Submit => "submit tasks or act on them",
            Self::Deploy => "deploy modules or set up what they run with",
            Self::Administer => "administer",
            Self::Work => "work as a host",
        }
    }

    /// The least role that includes it.
    #[must_use]
    pub fn least_role(self) -> Role {
        match self {
            Self::Identify | Self::Read => Role::Viewer,
            Self::Submit => Role::Submitter,
            Self::Deploy => Role::Deployer,
            Self::Administer => Role::Admin,
            Self::Work => Role::Host,
        }
    }
}

/// Which namespaces a credential is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All there are and will be, and what concerns all of them: hosts, overload, quotas.
    All,
    /// These, and nothing beside them. Never empty.
    Only(BTreeSet<String>),
}

impl Scope {
    /// A scope of the named namespaces; of none of them it is [`Scope::All`].
    ///
    /// # Errors
    /// [`NameError`] if one of them cannot be the name of a namespace.
    pub fn of(names: impl IntoIterator<Item = String>) -> Result<Self, NameError> {
        let names: BTreeSet<String> = names.into_iter().collect();
        names
            .iter()
            .try_for_each(|name| name::check("namespace", name))?;
        Ok(match names.is_empty() {
            true => Self::All,
            false => Self::Only(names),
        })
    }

    /// Whether it includes a namespace.
    #[must_use]
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }

    /// Whether everything that `other` includes is in it too.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(names), Self::Only(others)) => others.is_subset(names),
        }
    }

    /// The namespace of a call that names none: the only one, or else `default`.
    #[must_use]
    pub fn usual(&self) -> &str {
        match self {
            Self::Only(names) if names.len() == 1 => {
                names.first().map_or(DEFAULT_NAMESPACE, String::as_str)
            }
            Self::Only(_) | Self::All => DEFAULT_NAMESPACE,
        }
    }

    /// Its namespaces, in their order; none of them stands for all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::All => None,
            Self::Only(names) => Some(names),
        };
        names.into_iter().flatten().map(String::as_str)
    }
}

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What it is called in the audit log, such as `key 0190c7e2d3a4b5f6 (ci)`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub scope: Scope,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// One namespace, and what is in it.
    Namespace(&'a str),
    /// What all namespaces share: hosts, the broker itself.
    Cluster,
    /// The caller.
    Caller,
}

/// Why a call is refused. It says nothing of whether what was asked for is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role does not include it.
    #[error("role `{role}` may not {}; it needs role `{}`", .action.verb(), .action.least_role())]
    Role {
        /// What the caller has.
        role: Role,
        /// What it wanted.
        action: Action,
    },
    /// It is another namespace's.
    #[error("the credential is not for namespace `{0}`")]
    Namespace(String),
    /// It concerns all namespaces.
    #[error("the credential is for some namespaces, and this concerns all of them")]
    Cluster,
}

/// Decides whether a call is allowed. Pure, and the only place where that is decided.
///
/// # Errors
/// [`Denied`] if it is not.
pub fn authorize(
    principal: &Principal,
    action: Action,
    resource: Resource<'_>,
) -> Result<(), Denied> {
    let Principal {
        name: _,
        role,
        scope,
    } = principal;
    if !role.may(action) {
        return Err(Denied::Role {
            role: *role,
            action,
        });
    }
    match resource {
        Resource::Namespace(namespace) if !scope.has(namespace) => {
            Err(Denied::Namespace(namespace.to_owned()))
        }
        Resource::Cluster if *scope != Scope::All => Err(Denied::Cluster),
        Resource::Namespace(_) | Resource::Cluster | Resource::Caller => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(role: Role, namespaces: &[&str]) -> Principal {
        let names = namespaces.iter().map(|name| (*name).to_owned());
        Principal {
            name: "somebody".into(),
            role,
            scope: Scope::of(names).unwrap(),
        }
    }

    #[test]
    fn roles_are_steps_and_a_host_only_works() {
        let may = |role: Role| Action::ALL.map(|action| role.may(action));
        //                                 identify read  submit deploy administer work
        assert_eq!(may(Role::Viewer), [true, true, false, false, false, false]);
        assert_eq!(
            may(Role::Submitter),
            [true, true, true, false, false, false]
        );
        assert_eq!(may(Role::Deployer), [true, true, true, true, false, false]);
        assert_eq!(may(Role::Admin), [true, true, true, true, true, false]);
        assert_eq!(may(Role::Host), [true, false, false, false, false, true]);
        for action in Action::ALL {
            assert!(action.least_role().may(action), "{action:?}");
        }
    }

    #[test]
    fn nothing_of_another_namespace_and_nothing_of_all_is_allowed() {
        let admin = principal(Role::Admin, &["acme", "beta"]);
        for (resource, expected) in [
            (Resource::Namespace("acme"), Ok(())),
            (Resource::Namespace("beta"), Ok(())),
            (
                Resource::Namespace("default"),
                Err(Denied::Namespace("default".into())),
            ),
            (Resource::Cluster, Err(Denied::Cluster)),
            (Resource::Caller, Ok(())),
        ] {
            assert_eq!(authorize(&admin, Action::Read, resource), expected);
        }
        let everywhere = principal(Role::Viewer, &[]);
        for resource in [Resource::Namespace("any"), Resource::Cluster] {
            assert_eq!(authorize(&everywhere, Action::Read, resource), Ok(()));
            let refused = authorize(&everywhere, Action::Submit, resource).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "role `viewer` may not submit tasks or act on them; it needs role `submitter`"
            );
        }
    }

    #[test]
    fn scopes_hold_what_they_name() {
        let of = |names: &[&str]| Scope::of(names.iter().map(|name| (*name).to_owned())).unwrap();
        assert_eq!(of(&["acme"]).usual(), "acme");
        assert_eq!(of(&["acme", "beta"]).usual(), "default");
        assert_eq!(of(&[]).usual(), "default");
        assert!(of(&[]).includes(&of(&["acme"])));
        assert!(of(&["acme", "beta"]).includes(&of(&["beta"])));
        assert!(!of(&["acme"]).includes(&of(&["acme", "beta"])));
        assert!(!of(&["acme"]).includes(&of(&[])));
        assert!(Scope::of(["a b".to_owned()]).is_err());
        let unknown = "owner".parse::<Role>().unwrap_err().to_string();
        assert!(unknown.starts_with("there is no role `owner`"), "{unknown}");
    }
}
