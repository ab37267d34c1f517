//! Clients of the HTTP face that take all the time in the world: they hold no place for ever.

#![cfg(target_os = "linux")]

use crate::site::{self, Site};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use weighbridge::access::Role;
use weighbridge::hub::Faces;

/// Sends the beginning of a request and nothing more, and reads until the hub hangs up.
async fn stalled(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = format!("Host: {address}\r\n");
    let request = head.replace("HOST\n", &host).replace("\r\n", "\n");
    let request = request.replace('\n', "\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // It may hang up with something unread.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asks again and again and takes no answer, until the hub gives the connection up.
async fn deaf(address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let request = format!("GET /page/app.js HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let all = request.repeat(200_000);
    let mut sent = 0;
    let either = Interest::WRITABLE | Interest::ERROR;
    loop {
        let ready = stream.ready(either).await.unwrap();
        if ready.is_error() || ready.is_write_closed() {
            return;
        }
        match stream.try_write(&all.as_bytes()[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        assert!(sent < all.len(), "somebody takes all of it");
    }
}

#[test]
fn who_sends_or_takes_too_slowly_loses_their_place() {
    let site = Site::new(127);
    let hub = site.hub().start().unwrap();
    let faces = Faces {
        http: Some((Ipv4Addr::LOCALHOST, 0).into()),
        http_roles: vec![Role::Observer],
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let url = faces.http_url().unwrap();
    let address: SocketAddr = url["http://".len()..]
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let json = "Content-Type: application/json\n";
    let post =
        format!("POST /api/v1/devices/x/write HTTP/1.1\nHOST\n{json}Content-Length: 100\n\n{{");
    let piece = format!(
        "POST /api/v1/devices/x/write HTTP/1.1\nHOST\n{json}Transfer-Encoding: chunked\n\n5\n{{\"a\""
    );
    let unwanted = "GET /healthz HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n5\nhel";
    let waited = tokio::runtime::Handle::clone(&hub.runtime());
    waited.block_on(async {
        let all = async {
            tokio::join!(
                stalled(address, &post),
                stalled(address, &piece),
                stalled(address, unwanted),
                deaf(address),
            )
        };
        let ended = tokio::time::timeout(site::PATIENCE * 6, all).await;
        let (post, piece, unwanted, ()) = ended.expect("the hub hangs up");
        assert!(post.starts_with("HTTP/1.1 408 "), "{post}");
        assert!(piece.starts_with("HTTP/1.1 408 "), "{piece}");
        assert!(unwanted.starts_with("HTTP/1.1 200 "), "{unwanted}");
    });
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
}
