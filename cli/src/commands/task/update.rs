//! `tq task update`

use tq_client::TaskUpdate;

use crate::args::TaskUpdateArgs;
use crate::commands::{call, connect, task};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::units::{OrNone, now_ms};

pub(crate) async fn run(config: &Config, args: TaskUpdateArgs) -> anyhow::Result<Exit> {
    let TaskUpdateArgs {
        id,
        priority,
        run_at,
        delay,
        deadline,
        require,
        prefer,
    } = args;
    let labels = |given: Option<OrNone<_>>| {
        given.map(|given| match given {
            OrNone::None => Default::default(),
            OrNone::Value(labels) => call::labels(Some(labels)),
        })
    };
    let is_empty = priority.is_none()
        && run_at.is_none()
        && delay.is_none()
        && deadline.is_none()
        && require.is_none()
        && prefer.is_none();
    if is_empty {
        return Err(Failure::usage("nothing is to be changed")
            .hint("name what is, such as --priority 200; `tq task update --help` lists it")
            .into());
    }
    let update = TaskUpdate {
        priority,
        run_at_ms: run_at.map(|moment| moment.0),
        delay_ms: delay.map(|span| span.0),
        deadline_ms: deadline.map(|deadline| match deadline {
            OrNone::None => 0,
            OrNone::Value(deadline) => deadline.at_ms(now_ms()),
        }),
        required_labels: labels(require),
        preferred_labels: labels(prefer),
    };
    let updated = connect(config).await?.update_task(&id, update).await?;
    task::print_state(config, &updated)?;
    Ok(Exit::Succeeded)
}
