// SPDX-License-Identifier: GPL-2.0
//! Events for an async program, with the feature `tokio`.
//!
//! Only the waiting is async: commands are answered within the system call that sends
//! them, so they go through [`AsyncEvents::client`] and never wait.

use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Client, Error, Input, Kernel};
use crate::model::EventSet;

/// The events of the current network namespace, in a tokio runtime.
///
/// ```no_run
/// # async fn watch() -> Result<(), smapp::Error> {
/// use smapp::{AsyncEvents, EventSet, Input};
///
/// let mut events = AsyncEvents::connect(EventSet::ALL)?;
/// while let Input::Event(event) = events.next().await? {
///     println!("{} {}", event.kind().word(), event.token);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncEvents(AsyncFd<Client>);

impl AsyncEvents {
    /// Connects, and registers for events. Panics outside of a tokio runtime with IO.
    pub fn connect(events: EventSet) -> Result<Self, Error> {
        let mut client = Client::connect()?;
        client.listen(events)?;
        // What replaces it is unsafe, because a descriptor might close or change while it is
        // registered. A client keeps its own.
        #[expect(deprecated)]
        let client = AsyncFd::with_interest(client, Interest::READABLE);
        client
            .map(Self)
            .map_err(Error::io("registering with tokio"))
    }

    /// Waits for the next input; never [`Input::Time`]. After [`Input::Lost`] ask
    /// [`client`](Self::client) for what exists. Can be dropped at any time and called
    /// again: no event is lost by that.
    pub async fn next(&mut self) -> Result<Input, Error> {
        loop {
            match self.0.get_mut().wait(Some(Duration::ZERO))? {
                Input::Time => {}
                input => return Ok(input),
            }
            // An input that comes from here on makes it ready again.
            let ready = self.0.readable().await;
            ready.map_err(Error::io("waiting in tokio"))?.clear_ready();
        }
    }

    /// For commands and queries.
    pub fn client(&mut self) -> &mut Client {
        self.0.get_mut()
    }
}
