//! A driver of which each method shows one thing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::Semaphore;
use virtwire_driver_api::{
    CallCx, Connection, Driver, EventHub, FromClient, HypervisorDriver, StorageDriver, StreamEnd, ToClient,
    async_trait,
};
use virtwire_protocol::error::{ErrorDomain, VirtError};
use virtwire_protocol::remote::*;

/// How long anything is waited for; a test that fails should end.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Toy {
    pub(crate) events: Arc<EventHub>,
    /// `domain_suspend` waits for one of these.
    pub(crate) gate: Semaphore,
    /// Calls of `domain_suspend` and `domain_define_xml` that have begun.
    pub(crate) begun: AtomicUsize,
    /// What uploads have brought.
    pub(crate) uploaded: Mutex<Vec<FromClient>>,
    /// `domain_define_xml` holds its thread until it gets one of these.
    held: Mutex<mpsc::Receiver<()>>,
    lets_go: mpsc::Sender<()>,
    me: std::sync::Weak<Toy>,
}

impl Toy {
    pub(crate) fn new() -> Arc<Self> {
        let (lets_go, held) = mpsc::channel();
        Arc::new_cyclic(|me| Self {
            events: EventHub::new(),
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            uploaded: Mutex::default(),
            held: Mutex::new(held),
            lets_go,
            me: me.clone(),
        })
    }

    /// Lets one `domain_define_xml` go on.
    pub(crate) fn let_go(&self) {
        self.lets_go.send(()).unwrap();
    }
}

/// A guest whose UUID is the first letter of its name.
pub(crate) fn domain(name: &str) -> NonnullDomain {
    NonnullDomain { name: name.into(), uuid: [name.bytes().next().unwrap_or_default(); 16], id: 1 }
}

#[async_trait]
impl Driver for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    async fn open(&self, _: &CallCx, uri: &str) -> Result<Connection, VirtError> {
        let me = self.me.upgrade().unwrap();
        let storage: Arc<dyn StorageDriver> = me.clone();
        Ok(Connection {
            storage: Some(storage),
            features: &[9],
            ..Connection::new(uri, me, self.events.clone())
        })
    }
}

#[async_trait]
impl HypervisorDriver for Toy {
    async fn connect_get_type(&self, _: &CallCx) -> Result<ConnectGetTypeRet, VirtError> {
        Ok(ConnectGetTypeRet { r#type: "TOY".into() })
    }

    async fn domain_lookup_by_name(
        &self,
        _: &CallCx,
        args: DomainLookupByNameArgs,
    ) -> Result<DomainLookupByNameRet, VirtError> {
        Err(ErrorDomain::TEST.no_domain(format_args!("no domain with matching name '{}'", args.name)))
    }

    async fn domain_lookup_by_uuid(
        &self,
        _: &CallCx,
        args: DomainLookupByUuidArgs,
    ) -> Result<DomainLookupByUuidRet, VirtError> {
        Ok(DomainLookupByUuidRet { dom: domain(&char::from(args.uuid[0]).to_string()) })
    }

    async fn connect_list_all_domains(
        &self,
        _: &CallCx,
        args: ConnectListAllDomainsArgs,
    ) -> Result<ConnectListAllDomainsRet, VirtError> {
        let domains = if args.need_results == 0 { vec![] } else { ["a", "b", "c"].map(domain).into() };
        Ok(ConnectListAllDomainsRet { domains, ret: 3 })
    }

    /// Guests `a` and `b` run, `c` does not.
    async fn connect_get_all_domain_stats(
        &self,
        _: &CallCx,
        _: ConnectGetAllDomainStatsArgs,
    ) -> Result<ConnectGetAllDomainStatsRet, VirtError> {
        let record = |(name, state)| {
            let param = TypedParam { field: "state.state".into(), value: TypedParamValue::Int(state) };
            DomainStatsRecord { dom: domain(name), params: vec![param] }
        };
        Ok(ConnectGetAllDomainStatsRet { ret_stats: [("a", 1), ("b", 1), ("c", 5)].map(record).into() })
    }

    async fn domain_suspend(&self, _: &CallCx, _: DomainSuspendArgs) -> Result<(), VirtError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn domain_define_xml(
        &self,
        _: &CallCx,
        _: DomainDefineXmlArgs,
    ) -> Result<DomainDefineXmlRet, VirtError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.held.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Ok(DomainDefineXmlRet { dom: domain("a") })
    }

    async fn domain_reset(&self, _: &CallCx, _: DomainResetArgs) -> Result<(), VirtError> {
        panic!("a handler that fails")
    }

    async fn domain_get_xml_desc(
        &self,
        _: &CallCx,
        _: DomainGetXmlDescArgs,
    ) -> Result<DomainGetXmlDescRet, VirtError> {
        Ok(DomainGetXmlDescRet { xml: "<domain/>".into() })
    }

    /// Echoes, as a console does.
    async fn domain_open_console(
        &self,
        _: &CallCx,
        _: DomainOpenConsoleArgs,
        mut stream: StreamEnd,
    ) -> Result<(), VirtError> {
        tokio::spawn(async move {
            while let Some(item) = stream.incoming.recv().await {
                let answer = match item {
                    FromClient::Data(bytes) => ToClient::Data(bytes),
                    FromClient::Finish => ToClient::End,
                    FromClient::Hole(_) | FromClient::Abort => break,
                };
                if stream.outgoing.send(answer).await.is_err() {
                    break;
                }
            }
        });
        Ok(())
    }

    async fn domain_screenshot(
        &self,
        _: &CallCx,
        args: DomainScreenshotArgs,
        stream: StreamEnd,
    ) -> Result<DomainScreenshotRet, VirtError> {
        if args.screen > 0 {
            return Err(ErrorDomain::TEST.invalid_arg("no such screen"));
        }
        tokio::spawn(async move {
            for _ in 0..3 {
                let _ = stream.outgoing.send(ToClient::Data(vec![b'x'; 300_000])).await;
            }
            let _ = stream.outgoing.send(ToClient::End).await;
        });
        Ok(DomainScreenshotRet { mime: Some("image/png".into()) })
    }

    async fn domain_open_graphics_fd(
        &self,
        _: &CallCx,
        _: DomainOpenGraphicsFdArgs,
    ) -> Result<Vec<OwnedFd>, VirtError> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"hello").unwrap();
        Ok(vec![reader.into()])
    }

    async fn domain_create_with_files(
        &self,
        _: &CallCx,
        args: DomainCreateWithFilesArgs,
        fds: Vec<OwnedFd>,
    ) -> Result<DomainCreateWithFilesRet, VirtError> {
        let texts = fds.into_iter().map(|fd| {
            let mut text = std::string::String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            text
        });
        Ok(DomainCreateWithFilesRet { dom: domain(&texts.collect::<Vec<_>>().join(",")) })
            .inspect(|_| drop(args))
    }
}

#[async_trait]
impl StorageDriver for Toy {
    async fn storage_vol_upload(
        &self,
        _: &CallCx,
        args: StorageVolUploadArgs,
        mut stream: StreamEnd,
    ) -> Result<(), VirtError> {
        let me = self.me.upgrade().unwrap();
        tokio::spawn(async move {
            // From the middle of a volume on, not before it is let.
            if args.offset > 0 {
                me.gate.acquire().await.unwrap().forget();
            }
            while let Some(item) = stream.incoming.recv().await {
                let finish = item == FromClient::Finish;
                me.uploaded.lock().unwrap().push(item);
                if finish {
                    let answer = match args.length {
                        0 => ToClient::End,
                        _ => ToClient::Error(ErrorDomain::STORAGE.operation_failed("disk full")),
                    };
                    let _ = stream.outgoing.send(answer).await;
                    return;
                }
            }
        });
        Ok(())
    }
}
