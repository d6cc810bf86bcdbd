//! Sources that pools could be made of: what a host of the network exports, as `showmount` and `gluster` say.

use virtwire_conf::FormatOptions;
use virtwire_conf::storage::{PoolSource, PoolType};
use virtwire_conf::xml::{Document, Node, Writer};
use virtwire_driver_api::check_flags;
use virtwire_protocol::error::VirtError;
use virtwire_protocol::remote::{ConnectFindStoragePoolSourcesArgs, ConnectFindStoragePoolSourcesRet};

use crate::pool::check_kind;
use crate::program::{self, output};
use crate::{Pools, Result, STORAGE};

/// A directory of a host's, or a volume: its place there, and the kind of file system.
type Found = (String, &'static str);

pub(crate) async fn find(
    _: &Pools,
    args: ConnectFindStoragePoolSourcesArgs,
) -> Result<ConnectFindStoragePoolSourcesRet> {
    let name = args.r#type.to_str_lossy();
    let kind = PoolType::ALL.iter().find(|kind| kind.as_str() == name);
    let kind =
        *kind.ok_or_else(|| STORAGE.internal_error(format_args!("unknown storage pool type {name}")))?;
    check_kind(kind)?;
    if kind != PoolType::Netfs {
        return Err(STORAGE.no_support(format_args!("pool type '{name}' does not support source discovery")));
    }
    check_flags(STORAGE, args.flags, 0, "virStorageBackendFileSystemNetFindPoolSources")?;
    let none = || STORAGE.invalid_arg("hostname must be specified for netfs sources");
    let wanted = args.src_spec.ok_or_else(none)?;
    let wanted = PoolSource::parse(&wanted.to_str_lossy(), kind)?;
    let [host] = wanted.hosts.as_slice() else {
        return Err(STORAGE.config_unsupported("Expected exactly 1 host for the storage pool"));
    };
    let host = host.name.as_deref().unwrap_or_default();
    if host.starts_with('-') {
        // A program would take it for an option.
        return Err(none_on(host));
    }
    let xml = write(host, &all(host).await?).into();
    Ok(ConnectFindStoragePoolSourcesRet { xml })
}

/// All of a host's.
async fn all(host: &str) -> Result<Vec<Found>> {
    let (mut found, exported) = exported(host).await;
    // What is known of the failure of the one before counts for more than an answer that nobody understands.
    let volumes = match volumes(host).await? {
        Some(text) => volumes_of(&text, exported.as_ref().err())?,
        None => Vec::new(),
    };
    if exported.is_err() && volumes.is_empty() {
        return Err(none_on(host));
    }
    found.extend(volumes);
    Ok(found)
}

fn none_on(host: &str) -> VirtError {
    STORAGE.operation_failed(format_args!("no storage pools were found on host '{host}'"))
}

/// Directories that a host exports by NFS, as far as is told of them.
async fn exported(host: &str) -> (Vec<Found>, Result<()>) {
    let words = ["--no-headers", "--exports", host];
    let told = async {
        let output = output("showmount", &words).await?;
        program::check(&output, &format!("showmount {}", words.join(" ")))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    match told.await {
        Ok(text) => exports(&text),
        Err(error) => (Vec::new(), Err(error)),
    }
}

/// Reads lines of directories with their clients, up to one that is none.
fn exports(text: &str) -> (Vec<Found>, Result<()>) {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((path, clients)) = line.rsplit_once(' ') else { continue };
        let path = path.trim_end_matches(' ');
        let named = path.len() > 1 && path.starts_with('/') && !path.ends_with(char::is_whitespace);
        if !named || clients.is_empty() || clients.contains(char::is_whitespace) {
            continue;
        }
        if path.ends_with('/') {
            let text = format_args!("invalid netfs path (ends in /): {path}");
            return (found, Err(STORAGE.internal_error(text)));
        }
        found.push((path.to_owned(), "nfs"));
    }
    (found, Ok(()))
}

/// What is told of a host's Gluster volumes; nothing where nobody can tell.
async fn volumes(host: &str) -> Result<Option<String>> {
    let words = ["--xml", "--log-file=/dev/null", "volume", "info", "all", &format!("--remote-host={host}")];
    match output("gluster", &words).await {
        Ok(output) if output.status.success() => {
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        _ => Ok(None),
    }
}

/// Reads the volumes' names. `before` is the error that is told where the answer is no document.
fn volumes_of(text: &str, before: Option<&VirtError>) -> Result<Vec<Found>> {
    let document = Document::parse(text, STORAGE).map_err(|error| before.cloned().unwrap_or(error))?;
    let mut found = Vec::new();
    gather(document.root(), &mut found)?;
    Ok(found)
}

fn gather(node: Node<'_>, found: &mut Vec<Found>) -> Result<()> {
    for child in node.children().filter(|child| child.is_element()) {
        if node.is("volumes") && child.is("volume") {
            let name = child.child("name").map(|name| name.text().into_owned()).unwrap_or_default();
            if name.is_empty() {
                return Err(STORAGE.internal_error("failed to extract gluster volume name"));
            }
            found.push((name, "glusterfs"));
        }
        gather(child, found)?;
    }
    Ok(())
}

/// `<sources>`
fn write(host: &str, found: &[Found]) -> String {
    let options = FormatOptions::default();
    let mut out = Writer::new(&options);
    if found.is_empty() {
        // An element without content is still two lines.
        return "<sources>\n</sources>\n".to_owned();
    }
    out.open("sources");
    for (path, format) in found {
        out.open("source");
        for (element, attribute, value) in
            [("host", "name", host), ("dir", "path", path), ("format", "type", format)]
        {
            out.open(element);
            out.attribute(attribute, value);
            out.close(element);
        }
        out.close("source");
    }
    out.close("sources");
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> (Vec<String>, Option<String>) {
        let (found, ended) = exports(text);
        (found.into_iter().map(|(path, _)| path).collect(), ended.err().map(|error| error.message))
    }

    #[test]
    fn directories_are_told_from_what_is_none() {
        for (text, expected) in [
            ("/srv/data *\n/srv/x 10.0.0.0/8,192.168.0.0/16\n/a b c\n", &["/srv/data", "/srv/x", "/a b"][..]),
            ("/srv/a\n/srv/b \nrel/path host\n\n/ok *\n", &["/ok"]),
            ("/x  host\n/x a, b\n /x a\n/no *", &["/x", "/x a,", "/no"]),
            ("/ *\n//dbl *\n/tab\thost\n/with\ttab *\n/tr * \n", &["//dbl", "/with\ttab"]),
            ("/x\\040y *\n/y\r\n", &["/x\\040y"]),
            ("", &[]),
        ] {
            let expected = expected.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(paths(text), (expected, None), "{text:?}");
        }
        let error = "internal error: invalid netfs path (ends in /): /b/".to_owned();
        assert_eq!(paths("/a *\n/b/ *\n/c *\n"), (vec!["/a".to_owned()], Some(error)));
    }

    #[test]
    fn volumes_are_wherever_they_are_told_of() {
        let one = "<volumes><volume><name>vol&amp;1</name></volume></volumes>";
        let answer = format!("<?xml version='1.0'?><cliOutput><volInfo>{one}</volInfo></cliOutput>");
        for text in [answer.as_str(), one] {
            assert_eq!(volumes_of(text, None), Ok(vec![("vol&1".to_owned(), "glusterfs")]));
        }
        assert_eq!(volumes_of("<other/>", None), Ok(Vec::new()));
        let nameless = "<volumes><volume/></volumes>";
        let error = volumes_of(nameless, None).unwrap_err();
        assert_eq!(error.message, "internal error: failed to extract gluster volume name");
        let before = STORAGE.internal_error("before");
        assert_eq!(volumes_of("<cliOutput", Some(&before)), Err(before));
        assert_eq!(volumes_of("<cliOutput", None).unwrap_err().code.0, 35);
    }

    #[test]
    fn what_is_found_is_written_as_sources() {
        assert_eq!(write("h", &[]), "<sources>\n</sources>\n");
        let expected = "<sources>\n  <source>\n    <host name='h'/>\n    <dir path='/a&apos;b&amp;'/>\n    \
             <format type='nfs'/>\n  </source>\n</sources>\n";
        assert_eq!(write("h", &[("/a'b&".to_owned(), "nfs")]), expected);
    }
}
