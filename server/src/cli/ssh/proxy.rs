//! `proxy`: the bytes of a device's SSH server, on standard input and output; or the connection itself, for ssh.

use std::{
    cell::Cell,
    future::pending,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use clap::Args;
use rustix::{
    cmsg_space,
    fs::{FileType, fstat},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{device_name, wait_for};
use crate::{
    api::view::TaskView,
    cli::{api_client::ApiClient, devices, error::CliError},
};

/// The most bytes carried at once.
const CHUNK: usize = 64 * 1024;

/// How long it may take to learn why a session has ended.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is looked whether its end is written down.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The arguments of `proxy`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Proxy {
    /// The device's name; DEVICE.fleet will do
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Wait until the device is online
    #[arg(long)]
    wait: bool,
    /// Pass the connection itself to ssh, which has `ProxyUseFdpass yes`: for the server on this machine. Where standard
    /// output is no socket, bytes are carried
    #[arg(long)]
    pass: bool,
}

/// `holdfast proxy DEVICE`.
pub(in crate::cli) async fn proxy(api: &ApiClient, proxy: &Proxy) -> Result<(), CliError> {
    let name = &device_name(&proxy.device);
    if proxy.wait {
        wait_for(api, name).await?;
    }
    let path = devices::path(name, "/ssh");
    // A program that knows nothing of ProxyUseFdpass gives a pipe, and has the bytes carried.
    if proxy.pass && is_socket(io::stdout().as_fd()) {
        let connection = api.hand_over(&path).await?;
        return Ok(pass(connection.as_fd(), io::stdout().as_fd())?);
    }
    let (connection, task) = api.upgrade(&path).await?;
    let (from_device, to_device) = tokio::io::split(connection);
    let outward = carry(tokio::io::stdin(), to_device);
    let inward = carry(from_device, tokio::io::stdout());
    let ssh_has_gone = Cell::new(false);
    let ended = tokio::select! {
        // When the device has said all, ssh has nothing more to ask.
        ended = inward => ended,
        ended = async {
            outward.await?;
            ssh_has_gone.set(true);
            pending::<io::Result<()>>().await
        } => ended,
    };
    match task.filter(|_| !ssh_has_gone.get()) {
        Some(task) => explain_end(api, task, ended).await,
        None => Ok(()),
    }
}

/// Says why a session has ended that ssh did not end itself: ssh sees no more than that its connection is gone.
async fn explain_end(api: &ApiClient, task: i64, ended: io::Result<()>) -> Result<(), CliError> {
    if ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return Ok(ended?);
    }
    match timeout(EXPLANATION_TIMEOUT, end_of(api, task)).await {
        Ok(Ok(TaskView { reason: Some(reason), .. })) if reason != "finished" => {
            Err(CliError::failed(format!("the session has ended: {reason}")))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error @ CliError::Answer { .. })) => Err(error),
        Ok(Err(_)) | Err(_) if ended.is_ok() => Ok(()),
        Ok(Err(_)) | Err(_) => Err(CliError::failed("the connection to the server was cut")),
    }
}

/// The task, once it has ended: that is written down a moment after its connections have ended.
async fn end_of(api: &ApiClient, task: i64) -> Result<TaskView, CliError> {
    loop {
        let task: TaskView = api.get(&format!("/api/v1/tasks/{task}")).await?;
        if task.ended.is_some() {
            return Ok(task);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Passes a descriptor to whoever is at the other end of a socket.
fn pass(descriptor: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor];
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    // It goes with a byte, which says nothing.
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    fstat(descriptor).is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::Socket)
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSliceMut, Read, Write},
        os::unix::net::UnixStream,
    };

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[test]
    fn a_connection_is_passed_with_one_byte() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (passed, mut other) = UnixStream::pair().unwrap();
        pass(passed.as_fd(), ours.as_fd()).unwrap();
        drop((ours, passed));
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut bytes = [1; 2];
        let received =
            recvmsg(&theirs, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty()).unwrap();
        assert_eq!((received.bytes, bytes[0]), (1, 0));
        let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = control.drain().next() else {
            panic!("a descriptor was expected");
        };
        let mut received = UnixStream::from(descriptors.next().unwrap());
        received.write_all(b"!").unwrap();
        drop(received);
        let mut heard = Vec::new();
        other.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"!");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(is_socket(other.as_fd()) && !is_socket(file.as_fd()));
    }
}
