//! The baseline of the MCP benchmarks: the SDK with one tool that answers what it was given, and nothing around it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use actix_web::{App, HttpServer};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use rmcp_actix_web::transport::StreamableHttpService;
use serde_json::Value;

use crate::bare;

/// Makes this program the server: `--echo stdio`, or `--echo WORKERS` over HTTP.
pub(crate) const ARGUMENT: &str = "--echo";

struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("echo", "1"))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = Tool::new("echo", "Answers what it was given", JsonObject::new());
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or("");
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Starts a server over standard input and output.
pub(crate) fn over_stdio() -> Child {
    Command::new(std::env::current_exe().expect("this program has a path"))
        .args([ARGUMENT, "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program starts again")
}

/// A server over HTTP, in a process of its own.
pub(crate) struct OverHttp {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl OverHttp {
    pub(crate) fn start(workers: usize) -> Self {
        let (child, address) = bare::again([ARGUMENT, &workers.to_string()]);
        Self { child, address }
    }
}

impl Drop for OverHttp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(args: &[String]) {
    let [how] = <&[String; 1]>::try_from(args).expect("stdio, or a number of workers");
    let system = actix_web::rt::System::new();
    match how.parse::<usize>() {
        Ok(workers) => system.block_on(http(workers)),
        Err(_) => system.block_on(async {
            let running = Echo.serve(rmcp::transport::stdio()).await;
            running
                .expect("a client shakes hands")
                .waiting()
                .await
                .expect("it runs until its input ends");
        }),
    }
}

async fn http(workers: usize) {
    let service = StreamableHttpService::builder()
        .service_factory(Arc::new(|| Ok(Echo)))
        .session_manager(Arc::new(LocalSessionManager::default()))
        .json_response(true)
        .build();
    let server =
        HttpServer::new(move || App::new().service(service.clone().scope_with_path("/mcp")))
            .workers(workers)
            .tcp_nodelay(true)
            .bind(("127.0.0.1", 0))
            .expect("a free port");
    let address = server.addrs().first().copied().expect("it is bound");
    println!("{address}");
    server.run().await.expect("it runs until it is killed");
}
