//! Streams and viewings that end otherwise than they were to: somebody is thrown out, or the server fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

#[tokio::test]
async fn who_is_thrown_out_is_kept_out_for_a_while() {
    let fleet = Fleet::new().await;
    let (first, _device) = tokio::join!(fleet.watch("ada", Role::Operator), fleet.stream());
    let (first, second) = (first.unwrap(), fleet.watch("bea", Role::Viewer).await.unwrap());
    let ada = fleet.request("ada", Role::Operator).requester;
    fleet.video.throw_out(second.viewer(), &ada);
    let Err(VideoError::ThrownOut(words)) = fleet.watch("bea", Role::Viewer).await else { panic!() };
    assert!(words.starts_with("thrown out by ada; you can look again in "), "{words}");
    assert!(fleet.watch("cid", Role::Viewer).await.is_ok(), "that is for nobody else");
    fleet.video.throw_out(first.viewer(), &ada);
    assert!(fleet.watch("ada", Role::Operator).await.is_ok(), "she did it herself");
}

#[tokio::test]
async fn who_was_kept_out_for_long_enough_looks_again() {
    let mut fleet = Fleet::new().await;
    Arc::get_mut(&mut fleet.video).unwrap().kept_out = Duration::ZERO;
    let (viewing, _device) = tokio::join!(fleet.watch("bea", Role::Viewer), fleet.stream());
    let viewing = viewing.unwrap();
    fleet.video.throw_out(viewing.viewer(), &fleet.request("ada", Role::Operator).requester);
    assert!(fleet.watch("bea", Role::Viewer).await.is_ok());
}

/// The bytes of a device; the end of them is what the server fails at.
struct Brittle(DuplexStream);

impl AsyncRead for Brittle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, room);
        assert!(read.is_pending() || room.filled().len() > before, "wanted by a test");
        read
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_stream_at_which_the_server_fails_ends_alone_and_begins_anew() {
    let fleet = Fleet::new().await;
    let device = async {
        let (join, _) = fleet.order().await;
        fleet.join_by(&join, Brittle)
    };
    let (first, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), device);
    let (mut first, mut second) = (first.unwrap(), fleet.watch("bea", Role::Viewer).await.unwrap());
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    assert_eq!([next(&mut first).await, next(&mut second).await], [10, 10]);
    drop(device);
    for viewing in [&mut first, &mut second] {
        let end = timeout(LONGEST_WAIT, viewing.next()).await.unwrap().unwrap_err();
        let words = "the server has failed to relay the camera";
        assert_eq!((end.code, end.message.as_str()), (EndCode::Camera, words));
    }
    assert!(lock(&fleet.video.streams).is_empty(), "whoever comes now begins another one");
    assert_eq!(fleet.video.part.standing().restarts, 1);
    let (again, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    device.write_all(&frame(1, 20, KEYFRAME)).await.unwrap();
    assert_eq!(next(&mut again.unwrap()).await, 20);
    assert_eq!(fleet.events("part-failed").await.len(), 1);
}
