//! One task for each receiver: follows the present conditions, and sends what its ledger asks for.
//!
//! At most one message is on its way, so a receiver that is slow or dead delays no other.

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::alerts::body::{AlertSender, Heading, bodies};
use crate::alerts::ledger::{AlertMessage, Ledger, PresentConditions};
use crate::alerts::send::{NotDelivered, send};
use crate::alerts::settings::{AlertSettings, AlertTemplate, Destination, Secret};
use crate::alerts::watch::Present;
use crate::events::{Events, tell};
use crate::metrics::AlertSeries;

/// A receiver, and what its task needs.
pub(super) struct Receiver {
    pub(super) settings: watch::Receiver<Arc<AlertSettings>>,
    pub(super) present: watch::Receiver<Present>,
    pub(super) sender: Arc<AlertSender>,
    pub(super) series: Arc<AlertSeries>,
    pub(super) events: Events,
    /// The beginning of all [`crate::health::Moment`]s.
    pub(super) origin: Instant,
}

/// A message on its way.
struct Sending {
    message: AlertMessage,
    outcome: Pin<Box<dyn Future<Output = Result<String, NotDelivered>> + Send>>,
}

impl Receiver {
    /// Runs until the alert is removed.
    pub(super) async fn run(mut self) {
        let mut settings = Arc::clone(&self.settings.borrow_and_update());
        let mut ledger = Ledger::new(settings.timing);
        let mut sending: Option<Sending> = None;
        // Why the last message was not delivered.
        let mut failing: Option<String> = None;
        self.see(&settings, &mut ledger);
        loop {
            let now = self.origin.elapsed();
            if let Some(message) = ledger.take(now) {
                sending = Some(self.begin(&settings, message));
            }
            self.series.show(ledger.pending(), ledger.present());
            let next = ledger.next().map(|next| self.origin + next);
            let outcome = async {
                match &mut sending {
                    Some(sending) => sending.outcome.as_mut().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = Arc::clone(&self.settings.borrow_and_update());
                    if is_other(&settings, &wanted) {
                        (ledger, sending, failing) = (Ledger::new(wanted.timing), None, None);
                    } else if settings.destination != wanted.destination {
                        ledger.retry();
                    }
                    settings = wanted;
                    ledger.set_timing(settings.timing);
                    self.see(&settings, &mut ledger);
                }
                changed = self.present.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.see(&settings, &mut ledger);
                }
                outcome = outcome => {
                    if let Some(Sending { message, .. }) = sending.take() {
                        self.ended(&mut ledger, &message, outcome, &mut failing);
                    }
                }
                () = sleep_until(next.unwrap_or(self.origin)), if next.is_some() => {}
            }
        }
    }

    fn see(&mut self, settings: &AlertSettings, ledger: &mut Ledger) {
        let Some(present) = self.present.borrow_and_update().clone() else { return };
        let wanted = present.iter().filter(|(_, condition)| settings.wanted.wants(condition));
        let wanted: PresentConditions =
            wanted.map(|(key, condition)| (key.clone(), Arc::clone(condition))).collect();
        ledger.see(self.origin.elapsed(), &wanted);
    }

    fn begin(&self, settings: &Arc<AlertSettings>, message: AlertMessage) -> Sending {
        let heading = Heading {
            alert: &settings.name,
            sender: &self.sender,
            now: self.origin.elapsed(),
            wall: SystemTime::now(),
        };
        let bodies = bodies(&settings.template, &message, &heading, key_of(settings));
        let settings = Arc::clone(settings);
        Sending { message, outcome: Box::pin(async move { send(&settings, bodies).await }) }
    }

    fn ended(
        &self,
        ledger: &mut Ledger,
        message: &AlertMessage,
        outcome: Result<String, NotDelivered>,
        failing: &mut Option<String>,
    ) {
        let now = self.origin.elapsed();
        let alert = self.settings.borrow().name.clone();
        self.series.sent(outcome.is_ok());
        match outcome {
            Ok(_) => {
                ledger.delivered(now, message);
                if failing.take().is_some() {
                    tell!(
                        self.events.now(),
                        info,
                        Server,
                        alert,
                        "the receiver of the alert can be reached again"
                    );
                }
            }
            Err(NotDelivered { reason, retry_after }) => {
                ledger.failed(now, retry_after, rand::random());
                // A receiver that stays dead is told of once.
                if failing.as_ref() != Some(&reason) {
                    tell!(
                        self.events.now(),
                        warn,
                        Server,
                        alert,
                        reason,
                        "the alert could not be delivered; it is tried again, with what is true then"
                    );
                }
                *failing = Some(reason);
            }
        }
    }
}

/// Whether a receiver knows nothing of what the other was told.
fn is_other(before: &AlertSettings, now: &AlertSettings) -> bool {
    let place = |settings: &AlertSettings| match &settings.destination {
        Destination::Web(webhook) => (Some(webhook.url.clone()), None),
        Destination::Program { path, arguments, .. } => (None, Some((path.clone(), arguments.clone()))),
    };
    // The integration key of PagerDuty selects the receiver; a token only opens it.
    let key = |settings: &AlertSettings| {
        key_of(settings).filter(|_| settings.template == AlertTemplate::PagerDuty).map(str::to_owned)
    };
    place(before) != place(now) || key(before) != key(now) || before.template != now.template
}

/// The integration key, for PagerDuty.
pub(super) fn key_of(settings: &AlertSettings) -> Option<&str> {
    match &settings.destination {
        Destination::Web(webhook) => webhook.token.as_ref().map(Secret::reveal),
        Destination::Program { .. } => None,
    }
}
