//! Signals during training: the first asks it to save and stop, the second ends the program at once.

use crate::say::note;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tadformer::Control;

/// A training's control, in the hands of whoever sends signals to this process.
pub(crate) struct Signals {
    control: Control,
    received: Arc<AtomicI32>,
}

impl Signals {
    /// Listens from now on. The first SIGINT, SIGTERM or SIGHUP asks the training to stop, and ends the program if that takes
    /// longer than `deadline`; a second one ends it at once. SIGUSR1 asks it to save.
    ///
    /// # Errors
    /// A system that lets no handler be set.
    pub(crate) fn listen(control: &Control, deadline: Duration) -> std::io::Result<Self> {
        let signals = Self { control: control.clone(), received: Arc::default() };
        #[cfg(unix)]
        signals.spawn(deadline)?;
        #[cfg(not(unix))]
        let _ = deadline;
        Ok(signals)
    }

    /// The exit code of a program that was asked to end: 128 and the number of the signal.
    pub(crate) fn exit_code(&self) -> u8 {
        code(self.received.load(Ordering::Relaxed))
    }

    #[cfg(unix)]
    fn spawn(&self, deadline: Duration) -> std::io::Result<()> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
        let (control, received) = (self.control.clone(), Arc::clone(&self.received));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    control.save();
                } else if control.is_stopping() {
                    leave(signal, "a second signal: leaving without a save; the last checkpoint is whole");
                } else {
                    received.store(signal, Ordering::Relaxed);
                    control.stop();
                    note!(
                        "{}: finishing the update, then saving; a second signal leaves at once",
                        signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
                    );
                    leave_after(deadline, signal);
                }
            }
        })?;
        Ok(())
    }
}

/// Ends the program when the time for the save is over, if it still runs.
#[cfg(unix)]
fn leave_after(deadline: Duration, signal: i32) {
    let wait = move || {
        std::thread::sleep(deadline);
        leave(
            signal,
            "the save took longer than `train.save_deadline`: leaving; the last checkpoint is whole",
        );
    };
    // Without a thread there is no deadline, and the save goes on.
    let _ = std::thread::Builder::new().name("deadline".to_owned()).spawn(wait);
}

#[cfg(unix)]
fn leave(signal: i32, why: &str) -> ! {
    note!("{why}");
    std::process::exit(i32::from(code(signal)));
}

fn code(signal: i32) -> u8 {
    128 + u8::try_from(signal).unwrap_or(0)
}
