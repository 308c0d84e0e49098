use std::time::Duration;

use tonic::{Request, Response, Status};
use tq_core::Retention;
use tq_proto::v1;
use tq_proto::v1::retention_service_server::RetentionService;

use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::ApiError;
use crate::ledger::{Command, Keep, RetentionChange};

pub(super) struct Retentions(pub(super) Context);

#[tonic::async_trait]
impl RetentionService for Retentions {
    async fn get_retention(
        &self,
        request: Request<v1::GetRetentionRequest>,
    ) -> Result<Response<v1::Retention>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetRetentionRequest { namespace } = request.into_inner();
        self.keep(caller.namespace(namespace)?, None).await
    }

    async fn set_retention(
        &self,
        request: Request<v1::SetRetentionRequest>,
    ) -> Result<Response<v1::Retention>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SetRetentionRequest {
            namespace,
            succeeded_ms,
            dead_ms,
            cancelled_ms,
            expired_ms,
            results_ms,
            modules_ms,
        } = request.into_inner();
        let change = RetentionChange {
            succeeded: succeeded_ms.map(Duration::from_millis),
            dead: dead_ms.map(Duration::from_millis),
            cancelled: cancelled_ms.map(Duration::from_millis),
            expired: expired_ms.map(Duration::from_millis),
            results: results_ms.map(|ms| (ms != 0).then(|| Duration::from_millis(ms))),
            modules: modules_ms.map(Duration::from_millis),
        };
        self.keep(caller.namespace(namespace)?, Some(change)).await
    }
}

impl Retentions {
    async fn keep(
        &self,
        namespace: String,
        change: Option<RetentionChange>,
    ) -> Result<Response<v1::Retention>, Status> {
        let of_namespace = namespace.clone();
        let ask = self.0.ledger.ask(|reply| {
            Command::Keep(Keep {
                namespace: of_namespace,
                change,
                reply,
            })
        });
        let retention = ask.await.map_err(ApiError::from)?.map_err(ApiError::from)?;
        Ok(Response::new(shown(namespace, &retention)))
    }
}

fn shown(namespace: String, retention: &Retention) -> v1::Retention {
    let Retention {
        succeeded,
        dead,
        cancelled,
        expired,
        results,
        modules,
    } = *retention;
    v1::Retention {
        namespace,
        succeeded_ms: convert::millis(succeeded),
        dead_ms: convert::millis(dead),
        cancelled_ms: convert::millis(cancelled),
        expired_ms: convert::millis(expired),
        results_ms: results.map_or(0, convert::millis),
        modules_ms: convert::millis(modules),
    }
}
