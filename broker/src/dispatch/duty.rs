//! What an operator wants of a host. It outlives restarts of the host and of the broker.

use tq_core::Timestamp;

/// What an operator wants of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// It works.
    #[default]
    Working,
    /// It takes nothing new, and finishes what it has.
    Paused,
    /// It is being emptied.
    Draining {
        /// What still runs then is stopped, and goes back to its queue.
        until: Timestamp,
    },
    /// It was emptied, and takes nothing new.
    Drained,
}

/// What an operator may do to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing: it is looked at.
    Show,
    /// It is to take nothing new.
    Pause,
    /// It is to work again.
    Resume,
    /// It is to be emptied.
    Drain {
        /// What still runs then is stopped.
        until: Timestamp,
    },
}

/// A pause of a host that is being emptied, or was: it would say less than what holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drains;

impl Duty {
    /// What the duty is after an order.
    ///
    /// # Errors
    /// [`Drains`] if a host is to be paused that drains.
    pub fn after(self, order: Order) -> Result<Self, Drains> {
        match (order, self) {
            (Order::Show, duty) => Ok(duty),
            (
                Order::Resume,
                Self::Working | Self::Paused | Self::Draining { .. } | Self::Drained,
            ) => Ok(Self::Working),
            (Order::Pause, Self::Working | Self::Paused) => Ok(Self::Paused),
            (Order::Pause, Self::Draining { .. } | Self::Drained) => Err(Drains),
            (Order::Drain { until }, Self::Working | Self::Paused | Self::Draining { .. }) => {
                Ok(Self::Draining { until })
            }
            // It is empty.
            (Order::Drain { .. }, Self::Drained) => Ok(Self::Drained),
        }
    }

    /// Whether the host may be given attempts.
    #[must_use]
    pub fn is_working(self) -> bool {
        match self {
            Self::Working => true,
            Self::Paused | Self::Draining { .. } | Self::Drained => false,
        }
    }

    /// Why it takes nothing, for a person to read.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Working => None,
            Self::Paused => Some("someone paused it; `tq host resume` lets it work again"),
            Self::Draining { .. } => {
                Some("it is being drained; what still runs at the deadline goes back to its queue")
            }
            Self::Drained => Some("it was drained; `tq host resume` lets it work again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Timestamp = Timestamp(9);

    #[track_caller]
    fn check(order: Order, expected: [Result<Duty, Drains>; 4]) {
        let draining = Duty::Draining {
            until: Timestamp(5),
        };
        let before = [Duty::Working, Duty::Paused, draining, Duty::Drained];
        assert_eq!(before.map(|duty| duty.after(order)), expected);
    }

    #[test]
    fn orders_lead_from_each_duty_to_the_next() {
        let (working, paused) = (Ok(Duty::Working), Ok(Duty::Paused));
        let draining = Ok(Duty::Draining { until: UNTIL });
        let drains = Err(Drains);
        check(Order::Resume, [working; 4]);
        check(Order::Pause, [paused, paused, drains, drains]);
        let drain = Order::Drain { until: UNTIL };
        check(drain, [draining, draining, draining, Ok(Duty::Drained)]);
    }
}
