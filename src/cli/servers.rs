//! The servers that a command speaks to: from `--admin`, from `[client]`, or the one of the configuration file.

use std::net::SocketAddr;
use std::panic;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::client::{AdminClient, ClientError, ServerTrust};
use crate::cli::{ConfigFile, complain};
use crate::config::{AdminPlace, AdminUrl, BearerToken, protection};
use crate::file;

/// For which requests a server is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerUse {
    Read,
    Change,
}

/// Selects the servers.
#[derive(Debug, Args)]
pub(super) struct ServerArguments {
    /// An admin server, as http://HOST:PORT, https://HOST:PORT or unix:PATH; may be given more than once, for a command to all of them. Defaults to the
    /// servers under `[client]` in the configuration file, else to its own one
    #[arg(long, value_name = "URL")]
    admin: Vec<AdminUrl>,
    /// A file with the token of the servers; defaults to the one in the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority of the servers' certificates for https, or the certificate itself; defaults to `ca_file` under
    /// `[client]`, else to the authorities of the system; the server of the configuration file needs none
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The address on which the admin server listens, to send it a token through a tunnel; the n-th belongs to the n-th
    /// server
    #[arg(long, value_name = "ADDRESS:PORT")]
    forwarded_to: Vec<SocketAddr>,
    #[command(flatten)]
    config: ConfigFile,
}

impl ServerArguments {
    /// Finds all servers, at least one.
    ///
    /// # Errors
    /// If the token cannot be read, or neither the arguments nor the configuration have an address.
    pub(super) fn clients(&self) -> Result<Vec<AdminClient>, ClientError> {
        self.find(true, ServerUse::Change)
    }

    /// Finds all servers, at least one, to read from them. The token of the configuration may be unreadable: reading may
    /// need none.
    ///
    /// # Errors
    /// Like [`Self::clients`].
    pub(super) fn readable(&self) -> Result<Vec<AdminClient>, ClientError> {
        self.find(true, ServerUse::Read)
    }

    /// Finds the only server, to read from it.
    ///
    /// # Errors
    /// Like [`Self::readable`], or if there are several.
    pub(super) fn client(&self) -> Result<AdminClient, ClientError> {
        only(self.readable()?)
    }

    /// Finds the server of the configuration file, or the one of `--admin`; `[client]` does not count.
    ///
    /// # Errors
    /// Like [`Self::client`].
    pub(super) fn own(&self) -> Result<AdminClient, ClientError> {
        only(self.find(false, ServerUse::Change)?)
    }

    fn find(&self, by_client: bool, purpose: ServerUse) -> Result<Vec<AdminClient>, ClientError> {
        let path = &self.config.path();
        let place = match AdminPlace::of(path) {
            Ok(place) => place,
            // The server may run on another machine.
            Err(_) if !self.admin.is_empty() => AdminPlace::default(),
            Err(error) => return Err(ClientError::Unread { path: path.clone(), error }),
        };
        let listed = (!self.admin.is_empty()).then(|| (self.admin.clone(), "--admin".to_owned()));
        let of_client = Some(place.client.admin).filter(|admin| by_client && !admin.is_empty());
        let of_client = of_client.map(|admin| (admin, format!("from [client] in {}", path.display())));
        let of_client_counts = listed.is_none() && of_client.is_some();
        let own = match (listed.or(of_client), place.listen) {
            (Some(others), _) => Err(others),
            // There is no default address, so that a command never acts on the wrong server by mistake.
            (None, Some(listen)) if listen.tcp().is_some_and(|address| address.port() == 0) => {
                return Err(ClientError::AnyPort(path.clone()));
            }
            (None, Some(listen)) => Ok(AdminUrl::of(listen, place.certificate.is_some())),
            (None, None) => {
                let hidden = AdminPlace::fault(path).map(ClientError::Faulty);
                return Err(hidden.unwrap_or_else(|| ClientError::NoAdmin(path.clone())));
            }
        };
        // A server on another machine must not receive the token of this one.
        let configured = match &own {
            Ok(url) if !url.may_need_token() => None,
            Err((urls, _)) if !urls.iter().any(AdminUrl::may_need_token) => None,
            Ok(_) => place.token_file.as_ref(),
            Err(_) if of_client_counts => place.client.token_file.as_ref(),
            Err(_) => None,
        };
        let (token, unread) = match self.token_file.as_ref().or(configured).map(|file| read_token(file)) {
            Some(Err(error)) if purpose == ServerUse::Read && self.token_file.is_none() => {
                (None, Some(error.to_string()))
            }
            read => (read.transpose()?, None),
        };
        let trust = match &self.ca_file {
            Some(file) => ServerTrust::Authority(Some(file.clone())),
            None if own.is_ok() => ServerTrust::Proof,
            None if of_client_counts => ServerTrust::Authority(place.client.ca_file.clone()),
            None => ServerTrust::Authority(None),
        };
        // With other servers, only the argument counts: the environment is for the server on this machine.
        let (urls, origin, file) = match own {
            Ok(url) => {
                let file = self.config.named().or_else(|| Some(path.clone()));
                (vec![url], format!("from {}", path.display()), file)
            }
            Err((urls, origin)) if of_client_counts => (urls, origin, None),
            Err((urls, origin)) => (urls, origin, self.config.argument.clone()),
        };
        if self.forwarded_to.len() > urls.len() {
            let (given, servers) = (self.forwarded_to.len(), urls.len());
            return Err(ClientError::Forwarded { given, servers });
        }
        let forwarded_to = self.forwarded_to.iter().copied().map(Some).chain(std::iter::repeat(None));
        let client = |(url, forwarded_to)| AdminClient {
            url,
            origin: origin.clone(),
            token: token.clone(),
            unread: unread.clone(),
            forwarded_to,
            trust: trust.clone(),
            file: file.clone().map(real),
        };
        Ok(urls.into_iter().zip(forwarded_to).map(client).collect())
    }
}

/// The server that runs this configuration, if its admin server can be found.
pub(super) fn server_of_file(path: &Path) -> Option<AdminClient> {
    let config = ConfigFile { argument: Some(path.to_owned()) };
    let server = ServerArguments {
        admin: Vec::new(),
        token_file: None,
        ca_file: None,
        forwarded_to: Vec::new(),
        config,
    };
    AdminPlace::of(path).ok()?.listen?;
    server.find(false, ServerUse::Read).and_then(only).ok()
}

/// Asks all servers at the same time; the replies are in their order. One that does not answer delays no other.
pub(super) async fn of_each<C, T, F>(clients: &[C], ask: impl Fn(C) -> F) -> Vec<T>
where
    C: Clone,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let asked: Vec<_> = clients.iter().map(|client| tokio::spawn(ask(client.clone()))).collect();
    let mut replies = Vec::with_capacity(asked.len());
    for task in asked {
        match task.await {
            Ok(reply) => replies.push(reply),
            Err(error) => match error.try_into_panic() {
                Ok(reason) => panic::resume_unwind(reason),
                Err(_) => break,
            },
        }
    }
    replies
}

fn only(clients: Vec<AdminClient>) -> Result<AdminClient, ClientError> {
    let urls: Vec<String> = clients.iter().map(|client| client.url.to_string()).collect();
    let mut clients = clients.into_iter();
    match (clients.next(), clients.next()) {
        (Some(client), None) => Ok(client),
        _ => Err(ClientError::Several(urls.join(", "))),
    }
}

/// The canonical path; the absolute path if the file is missing.
fn real(path: PathBuf) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

fn read_token(path: &Path) -> Result<BearerToken, ClientError> {
    let fault = |reason: String| ClientError::Token { path: path.into(), reason };
    let content = file::read(path, file::SECRET).map_err(|error| fault(error.to_string()))?;
    let token = content.text().map_err(|error| fault(error.to_string()))?;
    if let Some(mode) = content.exposed() {
        let protection = protection(&content, path);
        let path = path.display();
        complain(&format!(
            "warning: the token file {path} can be read or changed by other users of this machine \
             (mode {mode:04o}): {protection}"
        ));
    }
    BearerToken::parse(token).map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn server(directory: &Path, admin: &[&str], token_file: Option<&str>) -> ServerArguments {
        ServerArguments {
            admin: admin.iter().map(|text| text.parse().unwrap()).collect(),
            token_file: token_file.map(|name| directory.join(name)),
            ca_file: None,
            forwarded_to: Vec::new(),
            config: ConfigFile { argument: Some(directory.join("steerd.toml")) },
        }
    }

    fn urls(clients: &[AdminClient]) -> Vec<String> {
        clients.iter().map(|client| client.url.to_string()).collect()
    }

    #[test]
    fn the_server_is_that_of_the_arguments_or_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |admin: &[&str], token| server(directory.path(), admin, token).clients().and_then(only);
        assert!(matches!(at(&[], None), Err(ClientError::Unread { .. })), "none is guessed");
        fs::write(directory.path().join("steerd.toml"), "[server]\n").unwrap();
        assert!(matches!(at(&[], None), Err(ClientError::NoAdmin(_))), "none is guessed");

        let config = "[admin]\nlisten = \"0.0.0.0:9\"\ntoken_file = \"token\"\n";
        fs::write(directory.path().join("steerd.toml"), config).unwrap();
        assert!(matches!(at(&[], None), Err(ClientError::Token { .. })), "the token is not there");
        let reader = server(directory.path(), &[], None).client().unwrap();
        assert!(
            reader.token.is_none() && reader.unread.is_some_and(|reason| reason.contains("the token file"))
        );
        let named = server(directory.path(), &[], Some("token")).client();
        assert!(matches!(named, Err(ClientError::Token { .. })), "it was asked for");
        fs::write(directory.path().join("token"), "0123456789abcdef").unwrap();
        let client = at(&[], None).unwrap();
        assert_eq!(client.url.to_string(), "http://127.0.0.1:9");
        assert!(client.token.is_some_and(|token| token.as_str() == "0123456789abcdef"));

        let client = at(&["http://192.0.2.1:1"], None).unwrap();
        assert_eq!(client.url.to_string(), "http://192.0.2.1:1");
        assert!(client.token.is_none(), "a server elsewhere is not shown the token of this one");
        assert!(at(&["http://192.0.2.1:1"], Some("token")).unwrap().token.is_some());

        let config = "[admin]\nlisten = [\"unix:s\", \"127.0.0.1:9\"]\ntoken_file = \"none\"\n";
        fs::write(directory.path().join("steerd.toml"), config).unwrap();
        let client = at(&[], None).unwrap();
        assert_eq!(client.url, AdminUrl::Unix(directory.path().join("s")));
        assert!(client.token.is_none(), "the rights of the socket decide");

        fs::write(directory.path().join("steerd.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        assert!(matches!(at(&[], None), Err(ClientError::AnyPort(_))));
    }

    #[test]
    fn several_servers_are_those_of_the_arguments_or_of_the_client() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let two = ["http://192.0.2.1:1", "http://192.0.2.2:1"];
        let config = "[client]\nadmin = [\"http://192.0.2.1:1\", \"http://192.0.2.2:1\"]\ntoken_file = \"t\"\n\
                      [admin]\nlisten = \"127.0.0.1:9\"\n";
        fs::write(&path, config).unwrap();
        fs::write(directory.path().join("t"), "0123456789abcdef").unwrap();
        let at = |admin: &[&str]| server(directory.path(), admin, None);
        let clients = at(&[]).clients().unwrap();
        assert_eq!(urls(&clients), two);
        assert!(clients.iter().all(|client| client.token.is_some() && client.file.is_none()));
        let error = at(&[]).client().unwrap_err().to_string();
        assert!(error.contains("one of http://192.0.2.1:1, http://192.0.2.2:1 with --admin"), "{error}");
        assert_eq!(at(&[]).own().unwrap().url.to_string(), "http://127.0.0.1:9");
        assert_eq!(server_of_file(&path).unwrap().url.to_string(), "http://127.0.0.1:9");

        let clients = at(&two[1..]).clients().unwrap();
        assert_eq!(urls(&clients), &two[1..]);
        assert!(clients[0].token.is_none(), "the token is for the servers of the file");
        let mut tunnels = at(&two);
        tunnels.forwarded_to = vec!["198.51.100.1:1".parse().unwrap()];
        let clients = tunnels.clients().unwrap();
        let forwarded: Vec<bool> = clients.iter().map(|client| client.forwarded_to.is_some()).collect();
        assert_eq!(forwarded, [true, false]);
        tunnels.forwarded_to = vec!["198.51.100.1:1".parse().unwrap(); 3];
        let error = tunnels.clients().unwrap_err().to_string();
        assert!(error.contains("given 3 times, and there are 2 servers"), "{error}");
    }
}
