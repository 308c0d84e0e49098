//! Who makes a call, as far as the call itself has to know.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Request, Status};
use tq_core::Timestamp;
use tq_core::access::{Action, Denied, Principal, Resource, Scope, authorize};
use tq_core::limits::NAME_BYTES_MAX;
use tq_core::name::{self, DEFAULT_NAMESPACE};

use super::StoredKey;

/// Who makes a call, and what it does. A call gets its namespace here and nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// None if there is no access control, and everyone may do everything.
    principal: Option<Arc<Principal>>,
    action: Action,
    /// The host that it is, if its credential is of one.
    only_host: Option<Arc<str>>,
    /// When its credential ends, if it does so by itself.
    pub(crate) expires_at: Option<Timestamp>,
    about: Arc<Mutex<About>>,
}

/// What a call turned out to be about, for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// Empty if it is about no namespace.
    pub(crate) namespace: String,
    /// Such as `module greet`; empty if it is not known.
    pub(crate) subject: String,
}

impl Caller {
    pub(super) fn new(
        principal: Option<Arc<Principal>>,
        action: Action,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            principal,
            action,
            only_host: None,
            expires_at,
            about: Arc::default(),
        }
    }

    pub(super) fn with_host(self, only_host: Option<Arc<str>>) -> Self {
        Self { only_host, ..self }
    }

    /// Checks that the caller may be the host of this name.
    ///
    /// # Errors
    /// Its certificate is of another one.
    pub(crate) fn is_host(&self, name: &str) -> Result<(), Status> {
        self.is_about("host", name);
        match &self.only_host {
            Some(only) if **only != *name => Err(Status::permission_denied(format!(
                "the certificate is of host `{only}`, and this one says that it is `{name}`\nhint: give it that name with --name, or a certificate of its own"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Who makes this call.
    ///
    /// # Errors
    /// A request that did not pass the gate, which is a bug: nothing may be done for it.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get().cloned();
        caller.ok_or_else(|| {
            tracing::error!("a request has not passed the gate, which is a bug in tq");
            Status::internal("the broker does not know who calls, which is a bug in tq")
        })
    }

    /// Who it is; none if there is no access control.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_deref()
    }

    /// The namespace that a request names, or the caller's own if it names none.
    ///
    /// # Errors
    /// It cannot be a namespace's name, or what is done there is not allowed to the caller.
    pub(crate) fn namespace(&self, named: String) -> Result<String, Status> {
        let namespace = if named.is_empty() {
            let usual = self.principal().map(|principal| principal.scope.usual());
            usual.unwrap_or(DEFAULT_NAMESPACE).to_owned()
        } else {
            let checked = name::check("namespace", &named);
            checked.map_err(|error| Status::invalid_argument(error.to_string()))?;
            named
        };
        if let Err(denied) = self.check(Resource::Namespace(&namespace)) {
            // Not as of that namespace, whose administrators need not know who else there is, and has nothing of theirs.
            self.is_about("namespace", &namespace);
            return Err(denied);
        }
        self.note(|about| about.namespace.clone_from(&namespace));
        Ok(namespace)
    }

    /// Checks that the caller's role includes what the call does.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn role(&self) -> Result<(), Status> {
        self.check(Resource::Caller)
    }

    /// Checks that the caller may do it to what all namespaces share.
    ///
    /// # Errors
    /// It is not allowed.
    pub(crate) fn cluster(&self) -> Result<(), Status> {
        self.check(Resource::Cluster)
    }

    /// Whether everything of a scope is the caller's too.
    pub(crate) fn has_all_of(&self, scope: &Scope) -> bool {
        self.principal()
            .is_none_or(|principal| principal.scope.includes(scope))
    }

    /// Says what the call is about: what kind of thing, and its name as it was given. Of a name that is longer than names are, the rest
    /// is left out.
    pub(crate) fn is_about(&self, kind: &str, name: &str) {
        if name.is_empty() {
            return;
        }
        let name: String = name.chars().take(NAME_BYTES_MAX).collect();
        self.note(|about| about.subject = format!("{kind} {}", name.escape_debug()));
    }

    /// As [`Caller::is_about`], a key.
    pub(crate) fn is_about_key(&self, key: &StoredKey) {
        self.note(|about| about.subject = key.title());
    }

    pub(super) fn about(&self) -> About {
        self.about
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, note: impl FnOnce(&mut About)) {
        note(&mut self.about.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn check(&self, resource: Resource<'_>) -> Result<(), Status> {
        match &self.principal {
            None => Ok(()),
            Some(principal) => authorize(principal, self.action, resource).map_err(denied),
        }
    }
}

/// The answer to a call that is not allowed.
fn denied(denied: Denied) -> Status {
    let hint = match &denied {
        Denied::Role { .. } | Denied::Cluster => {
            "`tq whoami` shows what your credential is for; who administers this broker gives others"
        }
        Denied::Namespace(_) => {
            "`tq whoami` shows what your credential is for; name one of its namespaces with --namespace"
        }
    };
    Status::permission_denied(format!("{denied}\nhint: {hint}"))
}
