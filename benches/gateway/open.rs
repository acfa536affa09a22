//! Holds many streams open at once: each has had its head and first chunk, and goes on for longer than anybody waits.

use super::answer::head_of;
use super::load::{Order, request};
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// As many begin at once.
const AT_ONCE: usize = 64;

/// Opens what the order on stdin says, prints how many there are, and holds them until it is ended.
pub async fn serve() -> anyhow::Result<()> {
    let mut order = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut order)?;
    let order: Order = serde_json::from_str(&order)?;
    let secret = std::fs::read_to_string(&order.keys)?.lines().next().context("a key")?.to_owned();
    let request: Arc<[u8]> = request(&order, &secret).into();
    let (turns, mut beginning) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for number in 0..order.connections {
        let address = order.addresses[number % order.addresses.len()];
        let (turns, request) = (turns.clone(), request.clone());
        beginning.spawn(async move {
            let _turn = turns.acquire().await?;
            begin(address, &request).await
        });
    }
    let mut streams = Vec::new();
    while let Some(begun) = beginning.join_next().await {
        streams.push(begun??);
    }
    println!("{}", streams.len());
    std::future::pending().await
}

/// A stream whose first event has come.
async fn begin(address: SocketAddr, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut received = Vec::with_capacity(1024);
    loop {
        ensure!(stream.read_buf(&mut received).await? > 0, "a stream was closed");
        let Some(head) = head_of(&received)? else { continue };
        ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(&received));
        if received[head.length..].windows(2).any(|pair| pair == b"\n\n") {
            return Ok(stream);
        }
    }
}
