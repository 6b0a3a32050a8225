//! `openssh`: devices that are found behind a port of this machine's SSH server.
//!
//! A device may listen on a port while its session waits for its bytes, and on no other. When they have come, nobody logs in
//! by that port a second time.

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    DataConnection, Standing,
    live::{LiveTask, News},
    ports::Port,
};
use crate::{byte_stream::ByteStream, socket_table::SocketTable, ssh_account, store::TaskState};

/// How often it is looked whether the device listens: far shorter than what it takes to log in.
const LOOK: Duration = Duration::from_millis(25);

/// Why there is no SSH server behind a port.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error(
        "the device's SSH server does not answer; is it running, at the [tasks.ssh] address of the device's agent.toml?"
    )]
    Silent,
    #[error("somebody else of this machine listens on the session's port, {0}; `ss -ltnp` shows who")]
    Taken(u16),
    #[error("the session's port can't be reached: {0}")]
    System(#[from] io::Error),
}

impl Port {
    /// Waits until the device's SSH server is found behind the port, and hands its bytes to whoever waits for them. The port
    /// is the session's until that has ended.
    pub(super) async fn bring_bytes(self, live: Arc<LiveTask>) {
        let mut standing = live.standing.subscribe();
        let found = tokio::select! {
            found = self.find() => found,
            // There is nothing to be found any longer.
            _ = standing.wait_for(|standing| standing.state >= TaskState::Stopping) => return,
        };
        match found {
            Ok(stream) => {
                self.pass();
                if let Ok(admission) = live.enter_door() {
                    // Whoever waited may have gone: then the connection ends with this.
                    admission.admit(DataConnection::on_this_machine(stream));
                }
            }
            Err(error) => {
                live.tell(News::Finished(Standing::new(TaskState::Failed, error.to_string()))).await
            }
        }
        // It says so for as long as this has the task.
        let _ = standing.wait_for(|standing| standing.state.is_end()).await;
    }

    /// The device's SSH server.
    async fn find(&self) -> Result<impl ByteStream + 'static, PortError> {
        loop {
            match SocketTable::look()?.user_at(self.number) {
                // sshd listens for a device as the account: nobody else gets a byte.
                Some(user) if user == self.user => match ssh_account::connect(self.number).await {
                    Ok(stream) => return stream.ok_or(PortError::Silent),
                    // The device has just gone, and may come again.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error.into()),
                },
                Some(_) => return Err(PortError::Taken(self.number)),
                None => {}
            }
            sleep(LOOK).await;
        }
    }
}
