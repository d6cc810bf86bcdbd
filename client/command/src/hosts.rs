//! Which daemons a command is for, and how it is done on all of them at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use virtwire_client::{Connect, Credentials, Options, UriError};

use crate::failure::Failure;
use crate::password;

/// The daemons that a command is for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Hosts {
    /// The daemon, by a libvirt URI or an alias of libvirt.conf
    ///
    /// Without one it is LIBVIRT_DEFAULT_URI, else uri_default of libvirt.conf, else what the daemon opens by itself.
    #[arg(short, long, value_name = "URI", default_value = "", hide_default_value = true)]
    connect: String,

    /// Several daemons at once: URIs with commas in between; @FILE has one on each line
    #[arg(long, value_name = "URI,URI|@FILE", value_delimiter = ',')]
    on: Vec<String>,

    /// Connect read-only
    #[arg(short, long)]
    readonly: bool,

    /// Seconds that each daemon may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,

    /// Print JSON; for several daemons, a line for each
    #[arg(long)]
    pub(crate) json: bool,

    /// Connections that are used again, by URI; `None` opens and closes each.
    #[arg(skip)]
    kept: Option<Arc<Mutex<HashMap<String, Connect>>>>,
}

impl Hosts {
    /// Whether there is more than one.
    pub(crate) fn are_many(&self) -> bool {
        !self.on.is_empty()
    }

    /// From now on connections are used again.
    pub(crate) fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The connection that is kept and lives.
    fn kept(&self, uri: &str) -> Option<Connect> {
        let kept = self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(uri).filter(|connect| connect.connection().is_open()).cloned()
    }

    fn uris(&self) -> Result<Vec<String>, Failure> {
        if !self.are_many() {
            return Ok(vec![self.connect.clone()]);
        }
        let mut uris = Vec::new();
        for word in &self.on {
            let Some(path) = word.strip_prefix('@') else {
                uris.push(word.clone());
                continue;
            };
            let text = std::fs::read_to_string(path).map_err(Failure::file(path))?;
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            uris.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Ok(uris)
    }

    /// Connects to the only daemon.
    pub(crate) async fn only(&self) -> Result<Connect, Failure> {
        match self.uris()?.as_slice() {
            [uri] => self.open(uri).await,
            _ => Err(Failure::Usage("this is for one daemon at a time".into())),
        }
    }

    /// Connects to a daemon, as to those that the command is for.
    pub(crate) async fn open(&self, uri: &str) -> Result<Connect, Failure> {
        let time = Duration::from_secs(self.timeout);
        let options = Options {
            read_only: self.readonly,
            credentials: Some(Credentials::ask(password::ask)),
            open_deadline: Some(time),
            deadline: Some(time),
            ..Options::default()
        };
        Ok(Connect::open_with(uri, options).await?)
    }

    /// Does the work on every daemon at once; each answer is shown as it comes, so that nobody waits for the slowest. What
    /// fails on one of several is said and does not stop the others.
    pub(crate) async fn each<T, F>(
        &self,
        work: impl FnOnce(Connect) -> F + Clone + Send + 'static,
        mut show: impl FnMut(&str, T),
    ) -> Result<(), Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut tasks = JoinSet::new();
        for uri in self.uris()? {
            let (this, work) = (self.clone(), work.clone());
            tasks.spawn(async move {
                let done = async {
                    let connect = match this.kept(&uri) {
                        Some(connect) => connect,
                        None => this.open(&uri).await?,
                    };
                    let done = work(connect.clone()).await;
                    match &this.kept {
                        Some(kept) => {
                            kept.lock().unwrap_or_else(PoisonError::into_inner).insert(uri.clone(), connect);
                        }
                        // The answer is there; how the goodbye goes does not change it.
                        None => drop(connect.close().await),
                    }
                    done
                };
                let done = done.await;
                (uri, done)
            });
        }
        let (all, mut failed) = (tasks.len(), Vec::new());
        while let Some(task) = tasks.join_next().await {
            match task {
                Ok((uri, Ok(value))) => show(&uri, value),
                Ok((uri, Err(failure))) => {
                    if self.are_many() {
                        eprintln!("{uri}: {failure}");
                    }
                    failed.push(failure);
                }
                Err(_) => failed.push(Failure::Usage("the command failed".into())),
            }
        }
        match (failed.pop(), failed.len()) {
            (None, _) => Ok(()),
            (Some(failure), 0) if !self.are_many() => Err(failure),
            (Some(_), others) => Err(Failure::Hosts(others + 1, all)),
        }
    }
}

/// What a host is called in a table: what its URI names beside the driver.
pub(crate) fn short(uri: &str) -> String {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    match rest.split_once('/') {
        Some((host, _)) if !host.is_empty() => host.to_owned(),
        _ => uri.to_owned(),
    }
}

impl From<UriError> for Failure {
    fn from(error: UriError) -> Self {
        Self::Client(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_their_names() {
        assert_eq!(short("qemu+ssh://root@far:22/system"), "root@far:22");
        assert_eq!(short("qemu:///system"), "qemu:///system");
        assert_eq!(short("alias"), "alias");
    }
}
