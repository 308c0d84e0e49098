use tonic::{Request, Response, Status};
use tq_core::placement::is_default_queue;
use tq_core::queue::{Order, Rate};
use tq_proto::v1;
use tq_proto::v1::queue_service_server::QueueService;

use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, QueueChange, QueuePatch, Refused};

pub(super) struct Queues(pub(super) Context);

#[tonic::async_trait]
impl QueueService for Queues {
    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let queues = self.list(&namespace).await?;
        Ok(Response::new(v1::ListQueuesResponse { queues }))
    }

    async fn get_queue(
        &self,
        request: Request<v1::GetQueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetQueueRequest { namespace, name } = request.into_inner();
        let (namespace, name) = (caller.namespace(namespace)?, of_queue(name)?);
        let queues = self.list(&namespace).await?;
        let found = queues.into_iter().find(|queue| queue.name == name);
        let none = || Refused::NoQueue {
            namespace,
            queue: name,
        };
        Ok(found
            .map(Response::new)
            .ok_or_else(|| ApiError::from(none()))?)
    }

    async fn set_queue(
        &self,
        request: Request<v1::SetQueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SetQueueRequest {
            namespace,
            name,
            order,
            concurrency,
            rate,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let order = match v1::QueueOrder::try_from(order) {
            Ok(v1::QueueOrder::Unspecified) => None,
            Ok(v1::QueueOrder::Priority) => Some(Order::Priority),
            Ok(v1::QueueOrder::Fifo) => Some(Order::Fifo),
            Err(_) => return Err(invalid(format_args!("order {order} is not one"))),
        };
        let rate = rate.map(|rate| {
            (rate.tasks > 0).then(|| Rate {
                tasks: rate.tasks,
                per: std::time::Duration::from_millis(rate.per_ms),
                burst: match rate.burst {
                    0 => rate.tasks,
                    burst => burst,
                },
            })
        });
        let patch = QueuePatch::Set {
            order,
            concurrency: concurrency.map(|limit| (limit > 0).then_some(limit)),
            rate,
        };
        self.change(&caller, namespace, name, patch).await
    }

    async fn pause_queue(
        &self,
        request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        let caller = Caller::of(&request)?;
        let v1::PauseQueueRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.change(&caller, namespace, name, QueuePatch::Pause(true))
            .await
    }

    async fn resume_queue(
        &self,
        request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ResumeQueueRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.change(&caller, namespace, name, QueuePatch::Pause(false))
            .await
    }

    async fn delete_queue(
        &self,
        request: Request<v1::DeleteQueueRequest>,
    ) -> Result<Response<v1::Queue>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteQueueRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.change(&caller, namespace, name, QueuePatch::Delete)
            .await
    }
}

impl Queues {
    async fn list(&self, namespace: &str) -> Result<Vec<v1::Queue>, Status> {
        let of = namespace.to_owned();
        let queues = self.0.ledger.ask(|reply| Command::Queues(of, reply)).await;
        let queues = queues.map_err(ApiError::from)?.into_iter();
        Ok(queues
            .map(|queue| convert::queue_out(namespace, queue))
            .collect())
    }

    async fn change(
        &self,
        caller: &Caller,
        namespace: String,
        name: String,
        patch: QueuePatch,
    ) -> Result<Response<v1::Queue>, Status> {
        caller.is_about("queue", &name);
        let name = of_queue(name)?;
        let change = |reply| {
            Command::Queue(QueueChange {
                namespace: namespace.clone(),
                name,
                patch,
                reply,
            })
        };
        let changed = self.0.ledger.ask(change).await;
        let queue = changed.map_err(ApiError::from)?.map_err(ApiError::from)?;
        Ok(Response::new(convert::queue_out(&namespace, queue)))
    }
}

fn of_queue(name: String) -> Result<String, Status> {
    if !is_default_queue(&name) {
        tq_core::name::check("queue name", &name).map_err(invalid)?;
    }
    Ok(name)
}
