//! Circuit breakers and overload: requests are decoded and answers encoded here.

use tonic::{Request, Response, Status};
use tq_core::Tier;
use tq_core::breaker::{Forced, Phase, Tally};
use tq_core::limits::{BREAKER_REASON_BYTES_MAX, NAME_BYTES_MAX};
use tq_core::overload;
use tq_proto::v1;
use tq_proto::v1::resilience_service_server::ResilienceService;

use super::Context;
use super::request::over;
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::dispatch::breakers::Event;
use crate::ledger::{BreakerOrder, BreakerView, Command, OverloadView, wall};

/// `MODULE@VERSION/FUNCTION`.
const FUNCTION_BYTES_MAX: usize = 2 * NAME_BYTES_MAX + "@4294967295/".len();

pub(super) struct Resilience(pub(super) Context);

#[tonic::async_trait]
impl ResilienceService for Resilience {
    async fn list_breakers(
        &self,
        request: Request<v1::ListBreakersRequest>,
    ) -> Result<Response<v1::ListBreakersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let of = namespace.clone();
        let breakers = self.0.ledger.ask(|reply| Command::Breakers(of, reply));
        let breakers = breakers.await.map_err(ApiError::from)?.into_iter();
        let breakers = breakers.map(|breaker| breaker_out(&namespace, breaker));
        Ok(Response::new(v1::ListBreakersResponse {
            breakers: breakers.collect(),
        }))
    }

    async fn get_breaker(
        &self,
        request: Request<v1::GetBreakerRequest>,
    ) -> Result<Response<v1::Breaker>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetBreakerRequest {
            namespace,
            function,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.order(&caller, namespace, function, BreakerOrder::Show)
            .await
    }

    async fn force_breaker(
        &self,
        request: Request<v1::ForceBreakerRequest>,
    ) -> Result<Response<v1::Breaker>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ForceBreakerRequest {
            namespace,
            function,
            state,
            reason,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let forced = match v1::BreakerState::try_from(state) {
            Ok(v1::BreakerState::Open) => Forced::Open,
            Ok(v1::BreakerState::Closed) => Forced::Closed,
            Ok(v1::BreakerState::Unspecified | v1::BreakerState::HalfOpen) | Err(_) => {
                return Err(invalid("a breaker is forced to be open or closed"));
            }
        };
        over("reason", reason.len(), BREAKER_REASON_BYTES_MAX)?;
        let order = BreakerOrder::Force(forced, reason);
        self.order(&caller, namespace, function, order).await
    }

    async fn release_breaker(
        &self,
        request: Request<v1::ReleaseBreakerRequest>,
    ) -> Result<Response<v1::Breaker>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ReleaseBreakerRequest {
            namespace,
            function,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.order(&caller, namespace, function, BreakerOrder::Release)
            .await
    }

    async fn get_overload(
        &self,
        _: Request<v1::GetOverloadRequest>,
    ) -> Result<Response<v1::Overload>, Status> {
        let view = self.0.ledger.shared().admission.view(wall());
        Ok(Response::new(overload_out(view)))
    }
}

impl Resilience {
    /// Passes an order on, and answers with the breaker as it is then.
    async fn order(
        &self,
        caller: &Caller,
        namespace: String,
        function: String,
        order: BreakerOrder,
    ) -> Result<Response<v1::Breaker>, Status> {
        caller.is_about("breaker", &function);
        over("function", function.len(), FUNCTION_BYTES_MAX)?;
        let command = |reply| Command::Breaker {
            namespace: namespace.clone(),
            function,
            order,
            reply,
        };
        let breaker = self.0.ledger.ask(command).await.map_err(ApiError::from)?;
        let breaker = breaker.map_err(ApiError::from)?;
        Ok(Response::new(breaker_out(&namespace, breaker)))
    }
}

fn breaker_out(namespace: &str, breaker: BreakerView) -> v1::Breaker {
    let BreakerView {
        function,
        phase,
        forced,
        until,
        tally: Tally { ended, failed },
        history,
    } = breaker;
    let changes = history.into_iter().map(|event| {
        let Event { at, phase, reason } = event;
        v1::BreakerChange {
            at_ms: at.0,
            state: state(phase).into(),
            reason,
        }
    });
    v1::Breaker {
        namespace: namespace.to_owned(),
        function: function.to_string(),
        digest: function.digest.to_string(),
        state: state(phase).into(),
        forced: forced.is_some(),
        until_ms: until.map_or(0, |at| at.0),
        ended,
        failed,
        changes: changes.collect(),
    }
}

fn overload_out(overload: OverloadView) -> v1::Overload {
    let OverloadView {
        level,
        gauges,
        refused: [(_, refused_high), (_, refused_normal), (_, refused_low)],
        changes,
    } = overload;
    let gauges = gauges.map(|gauge| v1::OverloadGauge {
        resource: gauge.resource.name().to_owned(),
        taken: gauge.taken,
        low_share: gauge.share(Tier::Low),
        normal_share: gauge.share(Tier::Normal),
        limit: gauge.share(Tier::High),
    });
    let changes = changes.into_iter().map(|change| {
        let overload::Change { at, level, reason } = change;
        v1::OverloadChange {
            at_ms: at.0,
            level: level.number().into(),
            reason,
        }
    });
    let refuses = level.refuses().map(|tier| match tier {
        Tier::Low => v1::Tier::Low.into(),
        Tier::Normal => v1::Tier::Normal.into(),
        Tier::High => v1::Tier::High.into(),
    });
    v1::Overload {
        level: level.number().into(),
        refuses: refuses.collect(),
        gauges: gauges.into(),
        refused_low,
        refused_normal,
        refused_high,
        changes: changes.collect(),
    }
}

fn state(phase: Phase) -> v1::BreakerState {
    match phase {
        Phase::Closed => v1::BreakerState::Closed,
        Phase::Open => v1::BreakerState::Open,
        Phase::HalfOpen => v1::BreakerState::HalfOpen,
    }
}
