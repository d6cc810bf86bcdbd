//! Opening a connection, in the order that libvirt's own client keeps to.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use virtwire_protocol::codec::{Decode, Encode, EncodeError};
use virtwire_protocol::procedures::Program;
use virtwire_protocol::remote::{ConnectOpenArgs, ConnectSupportsFeatureArgs};
use virtwire_protocol::{XdrString, admin};

use crate::Error;
use crate::auth::{self, Credentials, Source};
use crate::call::{self, Call, Reply, Request};
use crate::close::CloseReason;
use crate::link::{Link, Purpose};
use crate::reader;
use crate::stream::Stream;
use crate::transport::{self, Wire};
use crate::uri::{ClientConfig, Mode, Target};

/// A connection to a daemon. Clones are the same connection; it ends when all of them, their calls, streams and
/// events are gone, or with [`close`](Self::close).
///
/// Every procedure is a method: `DOMAIN_SUSPEND` is [`domain_suspend`](Self::domain_suspend), those of other programs
/// have their program's name before them. Calls may run at the same time; dropping one gives its reply up.
#[derive(Clone)]
pub struct Connection {
    link: Arc<Link>,
    opened: Arc<Opened>,
}

/// What was found out when the connection was opened.
#[derive(Debug)]
struct Opened {
    uri: String,
    callback_ids: bool,
    /// Whether it is the administration that the connection leads to.
    admin: bool,
    options: Options,
}

/// How a connection is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Look only: the read-only socket where there is one, and the flag that says so.
    pub read_only: bool,
    /// Who is asked for a name and a password, where the daemon wants them and `auth.conf` has none.
    pub credentials: Option<Credentials>,
    /// Silence after which the daemon is pinged, and how many unanswered pings end the connection. `None` leaves it
    /// to the daemon to ping; its pings are always answered.
    pub keepalive: Option<(Duration, u32)>,
    /// What opening a connection may take.
    pub open_deadline: Option<Duration>,
    /// What a call may take, and the end of a stream; [`Call::within`] says it for one call. `None` waits for ever.
    pub deadline: Option<Duration>,
    /// Events of one registration that may wait to be taken; those that come on top are counted and lost.
    pub event_queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            credentials: None,
            keepalive: None,
            open_deadline: Some(Duration::from_secs(60)),
            deadline: None,
            event_queue: 4096,
        }
    }
}

/// `VIR_DRV_FEATURE_…`: what a client asks of a daemon.
mod feature {
    pub(super) const PROGRAM_KEEPALIVE: i32 = 10;
    pub(super) const REMOTE_EVENT_CALLBACK: i32 = 14;
    pub(super) const REMOTE_CLOSE_CALLBACK: i32 = 15;
}

/// `VIR_CONNECT_RO`
const READ_ONLY: u32 = 1;

impl Connection {
    /// Opens a connection by a libvirt URI, such as `qemu:///system`, `qemu+ssh://root@host/system`, `qemu://host/system`
    /// (TLS) or `test+unix:///default?socket=/run/virtwire/libvirt-sock`, or by an alias of `libvirt.conf`.
    ///
    /// An empty URI is `LIBVIRT_DEFAULT_URI`, else `uri_default` of `libvirt.conf`, else what the daemon opens by itself.
    pub async fn open(uri: &str) -> Result<Self, Error> {
        Self::open_with(uri, Options::default()).await
    }

    /// [`open`](Self::open) with options.
    pub async fn open_with(uri: &str, options: Options) -> Result<Self, Error> {
        let (target, options) = resolve(uri, options)?;
        let open = async {
            let wire = transport::connect(&target, options.read_only).await?;
            Self::greet(wire, uri, &target, options.clone()).await
        };
        within(options.open_deadline, open).await
    }

    /// Opens a connection on a socket that is connected already; of the URI only what the daemon is told counts.
    pub async fn over(socket: UnixStream, uri: &str) -> Result<Self, Error> {
        Self::over_with(socket, uri, Options::default()).await
    }

    /// [`over`](Self::over) with options.
    pub async fn over_with(socket: UnixStream, uri: &str, options: Options) -> Result<Self, Error> {
        let target = Target::parse(uri)?;
        within(options.open_deadline, Self::greet(socket.into(), uri, &target, options)).await
    }

    /// Opens a connection to a daemon's administration, `libvirtd:///system`; its procedures are the methods
    /// `admin_…`.
    pub async fn open_admin(uri: &str) -> Result<Self, Error> {
        let target = Target::parse(&ClientConfig::load()?.resolve(uri)?)?;
        Self::greet_admin(transport::unix(&target.admin_socket()).await?).await
    }

    /// Opens a connection to a daemon's administration on a socket that is connected already.
    pub async fn over_admin(socket: UnixStream) -> Result<Self, Error> {
        Self::greet_admin(socket.into()).await
    }

    async fn greet_admin(wire: Wire) -> Result<Self, Error> {
        let connection = Self::start(wire, true, Options::default());
        connection.admin_connect_open(&admin::ConnectOpenArgs { flags: 0 }).await?;
        Ok(connection)
    }

    fn start(wire: Wire, admin: bool, options: Options) -> Self {
        let descriptors = wire.carries_descriptors();
        let link = Arc::new(Link::new(wire.socket, descriptors, options.deadline));
        tokio::spawn(reader::run(Arc::downgrade(&link), options.keepalive, wire.helper));
        Self { link, opened: Arc::new(Opened { uri: String::new(), callback_ids: false, admin, options }) }
    }

    //= libvirt docs/kbase/internals/rpc.rst, "Wire examples"; the order of calls is that of libvirt's client
    async fn greet(wire: Wire, uri: &str, target: &Target, options: Options) -> Result<Self, Error> {
        let private = wire.is_private();
        let mut connection = Self::start(wire, false, options.clone());
        let source = Source { target, callback: options.credentials.as_ref(), private };
        auth::authenticate(&connection, &source).await?;
        // Asking this is what permits the daemon to ping.
        connection.supports_feature(feature::PROGRAM_KEEPALIVE).await?;
        let flags = if options.read_only { READ_ONLY } else { 0 };
        let name = Some(XdrString::from(&target.name));
        connection.connect_open(&ConnectOpenArgs { name, flags }).await?;
        let uri = if uri.is_empty() {
            connection.connect_get_uri().await?.uri.to_str_lossy().into_owned()
        } else {
            uri.to_owned()
        };
        let callback_ids = connection.supports_feature(feature::REMOTE_EVENT_CALLBACK).await?;
        connection.supports_feature(feature::REMOTE_CLOSE_CALLBACK).await?;
        connection.opened = Arc::new(Opened { uri, callback_ids, admin: false, options });
        Ok(connection)
    }

    /// Asks for a feature, `VIR_DRV_FEATURE_…` by number.
    pub async fn supports_feature(&self, feature: i32) -> Result<bool, Error> {
        Ok(self.connect_supports_feature(&ConnectSupportsFeatureArgs { feature }).await?.supported != 0)
    }

    /// The URI it was opened with, or the daemon's own if it was opened without one.
    pub fn uri(&self) -> &str {
        &self.opened.uri
    }

    /// Says goodbye and ends the connection. Calls that run end with [`Error::Closed`].
    pub async fn close(&self) -> Result<(), Error> {
        let goodbye = if self.opened.admin { self.admin_connect_close() } else { self.connect_close() }.await;
        self.link.close();
        match goodbye {
            // Some daemons close before their answer is out.
            Err(Error::Closed) => Ok(()),
            other => other,
        }
    }

    /// Waits until the connection has ended, and says why.
    pub async fn closed(&self) -> Error {
        self.link.ended().await
    }

    /// Has `tell` called when the connection ends, with the reason and what led to it; at once if it has ended.
    pub fn on_close(&self, tell: impl FnOnce(CloseReason, &Error) + Send + 'static) {
        self.link.on_close(Box::new(tell));
    }

    /// Whether the connection has not ended.
    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// How many replies came after their call had been dropped.
    pub fn late_replies(&self) -> u64 {
        self.link.late_replies()
    }

    /// How many calls wait for their replies.
    pub fn waiting_calls(&self) -> usize {
        self.link.waiting()
    }

    /// Calls a procedure with arguments that are encoded already; the reply is not decoded. For tools that know
    /// procedures by their tables; every procedure has a typed method as well.
    pub fn call_raw(
        &self,
        program: &Program,
        procedure: i32,
        args: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Call<Reply> {
        let streams = program.procedure(procedure).is_some_and(|info| info.stream.is_some());
        let purpose = if streams { Purpose::Stream } else { Purpose::Result };
        self.request(program, procedure, &Encoded(args), descriptors, purpose, call::raw)
    }

    fn request<T>(
        &self,
        program: &Program,
        procedure: i32,
        args: &dyn Encode,
        descriptors: Vec<OwnedFd>,
        purpose: Purpose,
        finish: fn(Reply) -> Result<T, Error>,
    ) -> Call<T> {
        let request = Request::new(program, procedure, args, descriptors, purpose);
        Call::new(Arc::clone(&self.link), request, finish)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn has_callback_ids(&self) -> bool {
        self.opened.callback_ids
    }

    pub(crate) fn event_queue(&self) -> usize {
        self.opened.options.event_queue.max(1)
    }
}

/// What the generated methods call, one for each kind of procedure.
impl Connection {
    fn call<T: for<'a> Decode<'a>>(&self, program: &Program, procedure: i32, args: &dyn Encode) -> Call<T> {
        self.request(program, procedure, args, Vec::new(), Purpose::Result, call::result)
    }

    fn call_giving<T: for<'a> Decode<'a>>(
        &self,
        program: &Program,
        procedure: i32,
        args: &dyn Encode,
        descriptors: Vec<OwnedFd>,
    ) -> Call<T> {
        self.request(program, procedure, args, descriptors, Purpose::Result, call::result)
    }

    fn call_taking<T>(
        &self,
        program: &Program,
        procedure: i32,
        args: &dyn Encode,
        descriptors: Vec<OwnedFd>,
        finish: fn(Reply) -> Result<T, Error>,
    ) -> Call<T> {
        self.request(program, procedure, args, descriptors, Purpose::Result, finish)
    }

    fn call_streaming<T>(
        &self,
        program: &Program,
        procedure: i32,
        args: &dyn Encode,
        finish: fn(Reply) -> Result<T, Error>,
    ) -> Call<T> {
        self.request(program, procedure, args, Vec::new(), Purpose::Stream, finish)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("uri", &self.opened.uri).finish_non_exhaustive()
    }
}

async fn within<T>(time: Option<Duration>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match time {
        Some(time) => tokio::time::timeout(time, work).await.unwrap_or(Err(Error::Deadline(time))),
        None => work.await,
    }
}

/// What a URI means with `libvirt.conf` and the environment.
fn resolve(uri: &str, mut options: Options) -> Result<(Target, Options), Error> {
    let config = ClientConfig::load()?;
    let mut target = Target::parse(&config.resolve(uri)?)?;
    if target.parameters.mode == Mode::Auto {
        target.parameters.mode = config.remote_mode;
    }
    target.parameters.tls_priority = target.parameters.tls_priority.or(config.tls_priority);
    options.keepalive = options.keepalive.or(config.keepalive);
    Ok((target, options))
}

/// Bytes that are XDR already.
struct Encoded<'a>(&'a [u8]);

impl Encode for Encoded<'_> {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}

mod stubs {
    use std::os::fd::OwnedFd;

    use virtwire_protocol::{admin, lxc, qemu, remote};

    use super::{Call, Connection, Stream, call};

    include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
}
