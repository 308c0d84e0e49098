//! What each call does, and so which role it needs. A call that stands here is let in if its caller's role includes it; one that does
//! not stand here is let in for nobody.

use tq_core::access::Action;

/// What is asked of who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its name in the audit log: service and method.
    pub(crate) name: &'static str,
    /// What it does; none is what everyone may ask, known or not.
    pub(crate) action: Option<Action>,
    /// Whether it changes something that the audit log has to have. What tasks do and what becomes of them is in their own record.
    pub(crate) is_audited: bool,
    /// Whether it concerns all namespaces.
    pub(crate) is_of_cluster: bool,
}

impl Call {
    const fn of_cluster(self) -> Self {
        Self {
            is_of_cluster: true,
            ..self
        }
    }
}

/// Where metrics are.
pub(crate) const METRICS: &str = "/metrics";

const PACKAGE: &str = "/tq.v1.";

const fn open(name: &'static str) -> Call {
    Call {
        name,
        action: None,
        is_audited: false,
        is_of_cluster: false,
    }
}

const fn quiet(name: &'static str, action: Action) -> Call {
    Call {
        name,
        action: Some(action),
        is_audited: false,
        is_of_cluster: false,
    }
}

const fn audited(name: &'static str, action: Action) -> Call {
    Call {
        name,
        action: Some(action),
        is_audited: true,
        is_of_cluster: false,
    }
}

/// The calls of `tq.v1`.
pub(crate) const CALLS: &[Call] = {
    use Action::{Administer, Deploy, Identify, Read, Submit, Work};
    &[
        quiet("AccessService/WhoAmI", Identify),
        audited("AccessService/CreateApiKey", Administer),
        quiet("AccessService/ListApiKeys", Administer),
        audited("AccessService/RotateApiKey", Administer),
        audited("AccessService/RevokeApiKey", Administer),
        quiet("AccessService/ListAuditRecords", Administer),
        quiet("TaskService/Submit", Submit),
        quiet("TaskService/GetTask", Read),
        quiet("TaskService/ListTasks", Read),
        audited("TaskService/CancelTask", Submit),
        audited("TaskService/CancelTasks", Submit),
        audited("TaskService/UpdateTask", Submit),
        audited("TaskService/RedriveTask", Submit),
        audited("TaskService/DeleteTask", Submit),
        audited("TaskService/DeleteTasks", Submit),
        audited("TaskService/ApplyToTasks", Submit),
        quiet("TaskService/ExportTasks", Read),
        quiet("TaskService/WatchTasks", Read),
        quiet("TaskService/GetTaskLogs", Read),
        quiet("TaskService/FollowTask", Read),
        quiet("DeadLetterService/ListDeadLetters", Read),
        quiet("DeadLetterService/ListSignatures", Read),
        quiet("DeadLetterService/GetDeadLetter", Read),
        audited("DeadLetterService/RedriveDeadLetters", Submit),
        audited("DeadLetterService/DiscardDeadLetters", Submit),
        audited("DeadLetterService/RedriveWithPayload", Submit),
        audited("ModuleService/UploadModule", Deploy),
        quiet("ModuleService/GetUpload", Deploy),
        quiet("ModuleService/GetModule", Read),
        quiet("ModuleService/ListModules", Read),
        audited("ModuleService/RollbackModule", Deploy),
        audited("ModuleService/DeleteModule", Deploy),
        quiet("QueueService/ListQueues", Read),
        quiet("QueueService/GetQueue", Read),
        audited("QueueService/SetQueue", Deploy),
        audited("QueueService/PauseQueue", Deploy),
        audited("QueueService/ResumeQueue", Deploy),
        audited("QueueService/DeleteQueue", Deploy),
        quiet("ResilienceService/ListBreakers", Read),
        quiet("ResilienceService/GetBreaker", Read),
        audited("ResilienceService/ForceBreaker", Deploy),
        audited("ResilienceService/ReleaseBreaker", Deploy),
        quiet("ResilienceService/GetOverload", Read).of_cluster(),
        quiet("RetentionService/GetRetention", Read),
        audited("RetentionService/SetRetention", Administer),
        quiet("NamespaceService/GetNamespace", Read),
        quiet("NamespaceService/GetCost", Read),
        audited("NamespaceService/SetNamespace", Administer).of_cluster(),
        audited("SecretService/SetSecret", Deploy),
        quiet("SecretService/ListSecrets", Read),
        audited("SecretService/DeleteSecret", Deploy),
        audited("WebhookService/CreateWebhook", Deploy),
        quiet("WebhookService/GetWebhook", Read),
        quiet("WebhookService/ListWebhooks", Read),
        audited("WebhookService/PauseWebhook", Deploy),
        audited("WebhookService/ResumeWebhook", Deploy),
        audited("WebhookService/DeleteWebhook", Deploy),
        audited("WebhookService/TestWebhook", Deploy),
        quiet("WebhookService/ListDeliveries", Read),
        audited("WebhookService/Redeliver", Deploy),
        quiet("KeyValueService/ListBuckets", Read),
        quiet("KeyValueService/ListKeys", Read),
        quiet("KeyValueService/GetValue", Read),
        audited("KeyValueService/SetValue", Submit),
        audited("KeyValueService/DeleteValue", Submit),
        audited("KeyValueService/DeleteBucket", Deploy),
        quiet("HostService/ListHosts", Read).of_cluster(),
        quiet("HostService/GetHost", Read).of_cluster(),
        audited("HostService/PauseHost", Administer).of_cluster(),
        audited("HostService/ResumeHost", Administer).of_cluster(),
        audited("HostService/DrainHost", Administer).of_cluster(),
        audited("HostService/RemoveHost", Administer).of_cluster(),
        audited("HostLink/Session", Work).of_cluster(),
        quiet("HostLink/FetchBlob", Work).of_cluster(),
        quiet("HostLink/PutBlob", Work).of_cluster(),
        quiet("HostLink/PutLogs", Work).of_cluster(),
        quiet("HostLink/GetSecret", Work).of_cluster(),
        quiet("HostLink/KeyValue", Work).of_cluster(),
    ]
};

/// Those that are not ours: by their whole path, or by what it begins with.
const OTHERS: &[(&str, Call)] = &[
    // Whoever looks after the broker's process has to know whether it lives, and learns nothing else.
    ("/grpc.health.v1.Health/Check", open("Health/Check")),
    // It has no end, and so is not for those whom nobody knows.
    (
        "/grpc.health.v1.Health/Watch",
        quiet("Health/Watch", Action::Identify),
    ),
    (
        "/grpc.reflection.",
        quiet("ServerReflection", Action::Identify),
    ),
    (METRICS, quiet(METRICS, Action::Read).of_cluster()),
];

/// The call at a path; none if there is no such call.
pub(crate) fn at(path: &str) -> Option<Call> {
    if let Some(name) = path.strip_prefix(PACKAGE) {
        // Some eighty comparisons of strings that mostly differ in length take less than a hash of one.
        return CALLS.iter().find(|call| call.name == name).copied();
    }
    let others = OTHERS.iter().find(|(start, _)| path.starts_with(start));
    others.map(|(_, call)| *call)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_of_the_protocol_stands_here_once_and_no_other_does() {
        let descriptors = FileDescriptorSet::decode(tq_proto::DESCRIPTORS).unwrap();
        let services = descriptors.file.iter().flat_map(|file| &file.service);
        let methods: BTreeSet<String> = services
            .flat_map(|service| {
                let methods = service.method.iter();
                methods.map(|method| format!("{}/{}", service.name(), method.name()))
            })
            .collect();
        let here: BTreeSet<String> = CALLS.iter().map(|call| call.name.to_owned()).collect();
        assert_eq!(here, methods);
        assert_eq!(CALLS.len(), here.len(), "one stands here twice");
        assert!(CALLS.iter().all(|call| call.action.is_some()));
    }

    #[test]
    fn what_is_not_known_is_nobodys() {
        assert_eq!(at("/tq.v1.TaskService/Invented"), None);
        assert_eq!(at("/tq.v2.TaskService/Submit"), None);
        assert_eq!(at("/"), None);
        assert_eq!(at("/grpc.health.v1.Health/Check").unwrap().action, None);
        let watch = at("/grpc.health.v1.Health/Watch").unwrap();
        assert_eq!(watch.action, Some(Action::Identify));
        let metrics = at("/metrics").unwrap();
        assert_eq!(metrics.action, Some(Action::Read));
    }
}
