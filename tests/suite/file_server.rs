//! Serves the files of one folder over HTTP: the mirror from which recipes download a release.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// A server on a free port of loopback, until the process ends.
pub(crate) struct FileServer {
    address: SocketAddr,
}

impl FileServer {
    /// Starts one. The last part of a URL is the name of a file in the folder.
    pub(crate) fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| serve(client, &folder)));
        Self { address }
    }

    /// Returns the URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers one request. A client that leaves is not an error.
fn serve(client: TcpStream, folder: &Path) {
    let mut reader = BufReader::new(&client);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|len| len > 2) {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let (status, body) = match std::fs::read(folder.join(name)) {
        Ok(body) if !name.is_empty() => ("200 OK", body),
        _ => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&client).write_all(head.as_bytes()).and_then(|()| (&client).write_all(&body)).ok();
}
