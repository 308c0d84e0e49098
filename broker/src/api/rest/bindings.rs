//! Which request is which call: the one table of `/v1`.

use http::Method;

/// A request, and the call that it is.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) method: Method,
    /// Names in braces are fields of the call's message.
    pub(super) path: &'static str,
    /// Service and method, in `tq.v1`.
    pub(super) call: &'static str,
    pub(super) shape: Shape,
}

/// How the rest of the message comes, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// By the query, answered by one message.
    Query,
    /// By a body of JSON, but for the namespace; answered by one message.
    Body,
    /// By the query, answered by events. The named field is where they go on, and stands in each event as its id.
    Events(&'static str),
    /// By the query, answered by the text of the log.
    Log,
    /// By the query, answered by lines of tasks, as a file.
    Lines,
    /// A component as the body, with its settings in the query.
    Upload,
}

/// Services that are no interface of people and programs: hosts speak a protocol of their own.
#[cfg(test)]
pub(super) const OF_NODES: &[&str] = &["HostLink"];

fn binding(method: Method, path: &'static str, call: &'static str, shape: Shape) -> Binding {
    Binding {
        method,
        path,
        call,
        shape,
    }
}

/// All of them.
pub(super) fn all() -> Vec<Binding> {
    use Shape::{Body, Events, Lines, Log, Query, Upload};
    let get = |path, call| binding(Method::GET, path, call, Query);
    let post = |path, call| binding(Method::POST, path, call, Body);
    let put = |path, call| binding(Method::PUT, path, call, Body);
    let patch = |path, call| binding(Method::PATCH, path, call, Body);
    let delete = |path, call| binding(Method::DELETE, path, call, Query);
    vec![
        post("/v1/tasks", "TaskService/Submit"),
        get("/v1/tasks", "TaskService/ListTasks"),
        binding(
            Method::GET,
            "/v1/tasks/events",
            "TaskService/WatchTasks",
            Events("after_seq"),
        ),
        post("/v1/tasks/cancel", "TaskService/CancelTasks"),
        post("/v1/tasks/delete", "TaskService/DeleteTasks"),
        post("/v1/tasks/apply", "TaskService/ApplyToTasks"),
        binding(
            Method::GET,
            "/v1/tasks/export",
            "TaskService/ExportTasks",
            Lines,
        ),
        get("/v1/tasks/{id}", "TaskService/GetTask"),
        patch("/v1/tasks/{id}", "TaskService/UpdateTask"),
        delete("/v1/tasks/{id}", "TaskService/DeleteTask"),
        post("/v1/tasks/{id}/cancel", "TaskService/CancelTask"),
        post("/v1/tasks/{id}/redrive", "TaskService/RedriveTask"),
        binding(
            Method::GET,
            "/v1/tasks/{id}/events",
            "TaskService/FollowTask",
            Events("log_cursor"),
        ),
        binding(
            Method::GET,
            "/v1/tasks/{id}/log",
            "TaskService/GetTaskLogs",
            Log,
        ),
        get("/v1/dead-letters", "DeadLetterService/ListDeadLetters"),
        get(
            "/v1/dead-letters/signatures",
            "DeadLetterService/ListSignatures",
        ),
        post(
            "/v1/dead-letters/redrive",
            "DeadLetterService/RedriveDeadLetters",
        ),
        post(
            "/v1/dead-letters/discard",
            "DeadLetterService/DiscardDeadLetters",
        ),
        get("/v1/dead-letters/{id}", "DeadLetterService/GetDeadLetter"),
        post(
            "/v1/dead-letters/{id}/redrive",
            "DeadLetterService/RedriveWithPayload",
        ),
        get("/v1/modules", "ModuleService/ListModules"),
        binding(
            Method::PUT,
            "/v1/modules/{name}",
            "ModuleService/UploadModule",
            Upload,
        ),
        get("/v1/modules/{name}", "ModuleService/GetModule"),
        delete("/v1/modules/{name}", "ModuleService/DeleteModule"),
        post(
            "/v1/modules/{name}/rollback",
            "ModuleService/RollbackModule",
        ),
        get("/v1/uploads", "ModuleService/GetUpload"),
        get("/v1/queues", "QueueService/ListQueues"),
        get("/v1/queues/{name}", "QueueService/GetQueue"),
        put("/v1/queues/{name}", "QueueService/SetQueue"),
        delete("/v1/queues/{name}", "QueueService/DeleteQueue"),
        post("/v1/queues/{name}/pause", "QueueService/PauseQueue"),
        post("/v1/queues/{name}/resume", "QueueService/ResumeQueue"),
        get("/v1/breakers", "ResilienceService/ListBreakers"),
        get("/v1/breakers/{function}", "ResilienceService/GetBreaker"),
        put("/v1/breakers/{function}", "ResilienceService/ForceBreaker"),
        delete(
            "/v1/breakers/{function}",
            "ResilienceService/ReleaseBreaker",
        ),
        get("/v1/overload", "ResilienceService/GetOverload"),
        get("/v1/retention", "RetentionService/GetRetention"),
        patch("/v1/retention", "RetentionService/SetRetention"),
        get("/v1/namespaces/{name}", "NamespaceService/GetNamespace"),
        patch("/v1/namespaces/{name}", "NamespaceService/SetNamespace"),
        get("/v1/costs", "NamespaceService/GetCost"),
        get("/v1/secrets", "SecretService/ListSecrets"),
        put("/v1/secrets/{name}", "SecretService/SetSecret"),
        delete("/v1/secrets/{name}", "SecretService/DeleteSecret"),
        get("/v1/webhooks", "WebhookService/ListWebhooks"),
        post("/v1/webhooks", "WebhookService/CreateWebhook"),
        get("/v1/webhooks/{name}", "WebhookService/GetWebhook"),
        delete("/v1/webhooks/{name}", "WebhookService/DeleteWebhook"),
        post("/v1/webhooks/{name}/pause", "WebhookService/PauseWebhook"),
        post("/v1/webhooks/{name}/resume", "WebhookService/ResumeWebhook"),
        post("/v1/webhooks/{name}/test", "WebhookService/TestWebhook"),
        get(
            "/v1/webhooks/{name}/deliveries",
            "WebhookService/ListDeliveries",
        ),
        post(
            "/v1/webhooks/{name}/deliveries/{id}/redeliver",
            "WebhookService/Redeliver",
        ),
        get("/v1/buckets", "KeyValueService/ListBuckets"),
        delete("/v1/buckets/{bucket}", "KeyValueService/DeleteBucket"),
        get("/v1/buckets/{bucket}/keys", "KeyValueService/ListKeys"),
        get(
            "/v1/buckets/{bucket}/keys/{key}",
            "KeyValueService/GetValue",
        ),
        put(
            "/v1/buckets/{bucket}/keys/{key}",
            "KeyValueService/SetValue",
        ),
        delete(
            "/v1/buckets/{bucket}/keys/{key}",
            "KeyValueService/DeleteValue",
        ),
        get("/v1/hosts", "HostService/ListHosts"),
        get("/v1/hosts/{name}", "HostService/GetHost"),
        delete("/v1/hosts/{name}", "HostService/RemoveHost"),
        post("/v1/hosts/{name}/pause", "HostService/PauseHost"),
        post("/v1/hosts/{name}/resume", "HostService/ResumeHost"),
        post("/v1/hosts/{name}/drain", "HostService/DrainHost"),
        get("/v1/whoami", "AccessService/WhoAmI"),
        get("/v1/keys", "AccessService/ListApiKeys"),
        post("/v1/keys", "AccessService/CreateApiKey"),
        delete("/v1/keys/{id}", "AccessService/RevokeApiKey"),
        post("/v1/keys/{id}/rotate", "AccessService/RotateApiKey"),
        get("/v1/audit", "AccessService/ListAuditRecords"),
    ]
}

#[cfg(test)]
impl Binding {
    /// The names in braces.
    pub(super) fn path_fields(&self) -> impl Iterator<Item = &'static str> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, Kind};

    use super::*;

    #[test]
    fn every_call_but_those_of_nodes_has_one_request_with_fields_that_it_has() {
        let pool = DescriptorPool::decode(tq_proto::DESCRIPTORS).unwrap();
        let mut missing = BTreeSet::new();
        for service in pool.services() {
            let methods = service.methods();
            missing.extend(methods.map(|method| format!("{}/{}", service.name(), method.name())));
        }
        for binding in all() {
            let (service, method) = binding.call.split_once('/').unwrap();
            let service = pool
                .get_service_by_name(&format!("tq.v1.{service}"))
                .unwrap();
            let method = service.methods().find(|found| found.name() == method);
            let input = method.unwrap().input();
            for field in binding.path_fields() {
                let is_upload = binding.shape == Shape::Upload;
                let found = input.get_field_by_name(field);
                assert!(found.is_some() || is_upload, "{binding:?}: {field}");
            }
            assert!(missing.remove(binding.call), "{binding:?} is there twice");
        }
        let is_of_nodes = |call: &String| OF_NODES.iter().any(|node| call.starts_with(node));
        missing.retain(|call| !is_of_nodes(call));
        assert_eq!(missing, BTreeSet::new());
        for message in pool.all_messages().filter(|message| message.is_map_entry()) {
            let key = message.map_entry_key_field().kind();
            assert_eq!(key, Kind::String, "{message:?}: `json` knows no other keys");
        }
    }
}
