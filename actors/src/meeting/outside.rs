//! What the HTTP client needs of the machine it runs on: whom to trust, and where names lead.
//!
//! The program also runs where there is nothing but itself: then it brings its own root certificates. A static program
//! cannot load the modules by which the C library finds names, so it asks the name servers itself.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder};

/// The variables that name root certificates; whoever sets one wants those and no others.
const ROOTS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Builds a client that trusts the roots of the system, or those of Mozilla where the system has none.
pub(crate) fn build(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    let named = || {
        if cfg!(target_feature = "crt-static") {
            builder().dns_resolver(NameServers)
        } else {
            builder()
        }
    };
    let built = named().build();
    if built.is_ok() || ROOTS.iter().any(|name| std::env::var_os(name).is_some()) {
        return built;
    }
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let roots = roots.map(|root| Certificate::from_der(root));
    named()
        .tls_certs_only(roots.collect::<Result<Vec<_>, _>>()?)
        .build()
}

/// `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
///
/// Both are read for each connection and no answer is kept: whoever moves a container or a server gives it another
/// address under the same name, often long before the old answer ends.
#[derive(Debug)]
struct NameServers;

impl Resolve for NameServers {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolver = tokio::task::spawn_blocking(resolver).await??;
            let found = resolver.lookup_ip(name.as_str()).await?;
            // The caller puts the port in.
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn resolver() -> Result<TokioResolver, NetError> {
    // Without name servers there are still the names in `/etc/hosts`, and `localhost`.
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::debug!(%error, "no name servers are known");
        let none = ResolverConfig::default();
        TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn finds_this_machine_by_its_name() {
        let found = NameServers.resolve("localhost".parse().unwrap()).await;
        let found: Vec<_> = found.unwrap_or_else(|e| panic!("{e}")).collect();
        assert!(
            found.iter().any(|address| address.ip().is_loopback()),
            "{found:?}"
        );
    }

    #[test]
    fn the_built_in_roots_are_certificates() {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert!(roots.len() > 50, "{}", roots.len());
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).unwrap());
        Client::builder().tls_certs_only(roots).build().unwrap();
    }
}
