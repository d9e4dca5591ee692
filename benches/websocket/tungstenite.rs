//! tokio-tungstenite's echo server, on one thread. Prints its port.

use futures_util::{SinkExt, StreamExt};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
            let (mut out, mut messages) = socket.split();
            while let Some(Ok(message)) = messages.next().await {
                if message.is_close() || out.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}
