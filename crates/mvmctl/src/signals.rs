//! Signals: a flag while mvmctl works for itself, numbers to pass on while a guest's command is attached.

use mvm_engine::{Cancel, SignalSource};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::{SigId, flag, low_level};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How the process hears signals.
pub struct Signals {
    cancel: Cancel,
    handlers: RefCell<Vec<SigId>>,
}

impl Signals {
    /// Makes the first Ctrl-C (or SIGTERM, SIGHUP) set a flag, and the second end the process with 130.
    pub fn install() -> io::Result<Self> {
        let cancel = Cancel::default();
        let mut handlers = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag still unset and goes on to set it.
            handlers.push(flag::register_conditional_shutdown(signal, 130, Arc::clone(cancel.flag()))?);
            handlers.push(flag::register(signal, Arc::clone(cancel.flag()))?);
        }
        Ok(Self { cancel, handlers: RefCell::new(handlers) })
    }

    /// Returns the flag that the first signal sets.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Delivers signals as numbers from now on; they no longer end this process.
    pub fn attach(&self) -> io::Result<Attached> {
        let (read, write) = UnixStream::pair()?;
        let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        for handler in self.handlers.borrow_mut().drain(..) {
            low_level::unregister(handler);
        }
        Ok(Attached { delivery })
    }
}

/// Signals as a descriptor to poll and numbers to take.
pub struct Attached {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl SignalSource for Attached {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    fn take(&mut self) -> Vec<i32> {
        self.delivery.pending().collect()
    }
}
