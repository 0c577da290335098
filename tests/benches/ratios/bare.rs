//! The baseline of the HTTP benchmarks: actix-web that answers everything with the same bytes.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};

/// Makes this program the server: `--bare WORKERS FILE`.
pub(crate) const ARGUMENT: &str = "--bare";

/// A server in a process of its own, as the node is, so that its CPU time can be told apart.
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Starts this program once more, with `args`, as a server that prints where it listens.
pub(crate) fn again<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts again");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("standard output is a pipe");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("it says where it listens");
    let address = line.trim().parse().expect("an address");
    (child, address)
}

impl Bare {
    /// Starts to answer with the bytes in `body`.
    pub(crate) fn start(workers: usize, body: &Path) -> Self {
        let workers = workers.to_string();
        let (child, address) = again([ARGUMENT.as_ref(), workers.as_ref(), body.as_os_str()]);
        Self { child, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(args: &[String]) {
    let [workers, file] = <&[String; 2]>::try_from(args).expect("WORKERS and FILE");
    let workers = workers.parse().expect("a number");
    let body = Bytes::from(fs::read(file).expect("a readable file"));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(body.clone()))
            .default_service(web::to(answer))
    })
    .workers(workers)
    .bind(("127.0.0.1", 0))
    .expect("a free port");
    let address = server.addrs().first().copied().expect("it is bound");
    println!("{address}");
    actix_web::rt::System::new()
        .block_on(server.run())
        .expect("it runs until it is killed");
}

/// Takes the request's body, since every handler that answers a POST does.
async fn answer(_taken: Bytes, body: web::Data<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(Bytes::clone(&body))
}
