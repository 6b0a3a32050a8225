//! `proxy`: the bytes of a device's SSH server, on standard input and output.

use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{device_name, wait_for};
use crate::cli::{api_client::ApiClient, devices, error::CliError};

/// The most bytes carried at once.
const CHUNK: usize = 64 * 1024;

/// The arguments of `proxy`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Proxy {
    /// The device's name; DEVICE.fleet will do
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Wait until the device is online
    #[arg(long)]
    wait: bool,
}

/// `holdfast proxy DEVICE`.
pub(in crate::cli) async fn proxy(api: &ApiClient, proxy: &Proxy) -> Result<(), CliError> {
    let name = device_name(&proxy.device);
    if proxy.wait {
        wait_for(api, name).await?;
    }
    let connection = api.upgrade(&devices::path(name, "/ssh")).await?;
    let (from_device, to_device) = tokio::io::split(connection);
    let outward = carry(tokio::io::stdin(), to_device);
    let inward = carry(from_device, tokio::io::stdout());
    tokio::select! {
        // When the device has said all, ssh has nothing more to ask.
        ended = inward => ended?,
        ended = async {
            outward.await?;
            std::future::pending::<std::io::Result<()>>().await
        } => ended?,
    }
    Ok(())
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
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
