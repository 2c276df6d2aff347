//! Serves the key set over loopback HTTP, at the policy's `jwks_url`.
//!
//! Has one path and one document.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Enclave;
use crate::faults::{KeyServer, Twist};

pub(crate) const PATH: &str = "/certs";
const MAX_HEAD: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json";

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, enclave: Arc<Enclave>) {
    while let Ok((stream, _)) = listener.accept().await {
        let enclave = Arc::clone(&enclave);
        tokio::spawn(async move {
            // Ignore errors: the client may disconnect at any time.
            let _ = answer(stream, &enclave).await;
        });
    }
}

async fn answer(mut stream: TcpStream, enclave: &Enclave) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut head)).await??;
        if read == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
    }
    let known = head.starts_with(format!("GET {PATH} HTTP/1.1\r\n").as_bytes());
    enclave.log.write(0, "key-set", json!({ "known": known }));
    let twist = enclave
        .worldwide_twists()
        .iter()
        .find_map(|twist| match twist {
            Twist::KeyServer(twist) => Some(*twist),
            _ => None,
        });
    let whole = |head: &str, body: &str| {
        format!(
            "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let key_set = &enclave.world.key_set;
    let answer = match twist {
        _ if !known => whole("HTTP/1.1 404 Not Found", ""),
        None => whole(OK, key_set),
        Some(KeyServer::Head(head)) => whole(head, key_set),
        Some(KeyServer::Body(body)) => whole(OK, &body()),
        Some(KeyServer::HalfAnswer) => format!("{OK}\r\nContent-Length: {}\r\n\r\n", key_set.len()),
        Some(KeyServer::Drop) => return Ok(()),
        Some(KeyServer::Stall) => String::new(),
    };
    stream.write_all(answer.as_bytes()).await?;
    if matches!(twist, Some(KeyServer::Stall | KeyServer::HalfAnswer)) {
        return std::future::pending().await;
    }
    stream.shutdown().await
}
