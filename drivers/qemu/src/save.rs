//! Guests whose memory is in a file: saved, restored, and saved where the next start finds it.
//!
//! The file is libvirt's: [`Header`], the definition and a cookie, each with a zero behind it, room up to the end that
//! the header tells, and QEMU's own stream.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtwire_conf::table::write_document;
use virtwire_conf::{Domain, FormatOptions};
use virtwire_protocol::VirtError;
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::commands::{Cont, Stop};

use crate::begin::{Begin, Memory};
use crate::define::{text, transient};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags, file, monitor};
use crate::guest::{Ending, Guest, Live};
use crate::snapshot::{cookie, of_run};
use crate::state::{Lifecycle, State};
use crate::{migrate, overlay};

/// What a file begins with once it is whole, and until then.
const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
const PART: &[u8; 16] = b"LibvirtQemudPart";
/// The layout that is written; older ones can be read too.
const VERSION: u32 = 2;
/// The length of the header in bytes: the magic and 19 numbers.
const HEADER: usize = 92;
/// Room behind the definition, so that it may grow.
const ROOM: usize = 64 << 10;
/// The longest definition that is read.
const LONGEST: u32 = 16 << 20;

/// `VIR_DOMAIN_SAVE_…`
const BYPASS_CACHE: u32 = 1;
const RUNNING: u32 = 2;
const PAUSED: u32 = 4;
const RESET_NVRAM: u32 = 8;

/// What is before QEMU's stream.
pub(crate) struct Image {
    xml: String,
    cookie: String,
    /// Whether the guest is to run when it is restored.
    pub(crate) running: bool,
    /// Where the stream begins.
    length: u64,
}

impl Image {
    /// The bytes before the stream, marked as whole or not.
    fn bytes(&self, magic: &[u8; 16]) -> Vec<u8> {
        let data = [self.xml.as_bytes(), &[0], self.cookie.as_bytes(), &[0]].concat();
        let length = (self.length as usize).saturating_sub(HEADER).max(data.len());
        let cookie = if self.cookie.is_empty() { 0 } else { self.xml.len() + 1 };
        let numbers = [VERSION, length as u32, self.running.into(), 0, cookie as u32];
        let mut bytes = magic.to_vec();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.resize(HEADER, 0);
        bytes.extend(data);
        bytes.resize(HEADER + length, 0);
        bytes
    }

    /// Reads a file up to where the stream begins.
    ///
    /// # Errors
    /// It is none of libvirt's, or one that was not finished or is compressed.
    pub(crate) fn read(path: &str) -> Result<(Self, File)> {
        let cannot = |error| {
            VirtError::system(ErrorDomain::QEMU, &error, format_args!("Failed to open file '{path}'"))
        };
        let mut file = File::open(path).map_err(cannot)?;
        let failed = |what| QEMU.operation_failed(what);
        let mut head = [0; HEADER];
        file.read_exact(&mut head).map_err(|_| failed("failed to read qemu header"))?;
        let (magic, numbers) = head.split_at(MAGIC.len());
        let number = |at: usize| {
            let bytes = numbers.get(4 * at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        if magic == PART {
            return Err(failed("save image is incomplete"));
        }
        if magic != MAGIC {
            return Err(failed("image magic is incorrect"));
        }
        let [version, length, running, compressed, cookie] = [0, 1, 2, 3, 4].map(number);
        if version > VERSION {
            let text = format_args!("image version is not supported ({version} > {VERSION})");
            return Err(QEMU.operation_failed(text));
        }
        if compressed != 0 {
            return Err(QEMU.operation_failed("compressed save images are not supported yet"));
        }
        if length == 0 || length > LONGEST {
            return Err(QEMU.operation_failed(format_args!("invalid header data length: {length}")));
        }
        let mut data = vec![0; length as usize];
        file.read_exact(&mut data).map_err(|_| failed("failed to read domain XML"))?;
        let string = |at: usize| {
            let bytes = data.get(at..).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let cookie = if cookie == 0 { String::new() } else { string(cookie as usize) };
        let length = HEADER as u64 + u64::from(length);
        Ok((Self { xml: string(0), cookie, running: running != 0, length }, file))
    }
}

/// Flags that say how a guest goes on: at most one of them.
fn check_state(flags: u32, function: &str) -> Result<()> {
    if flags & RUNNING != 0 && flags & PAUSED != 0 {
        let text = "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive";
        return Err(bad_flags(ErrorDomain::DOMAIN, function, text));
    }
    Ok(())
}

pub(crate) async fn save(driver: &Qemu, args: DomainSaveArgs) -> Result<()> {
    save_flags(driver, DomainSaveFlagsArgs { dom: args.dom, to: args.to, dxml: None, flags: 0 }).await
}

pub(crate) async fn save_flags(driver: &Qemu, args: DomainSaveFlagsArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED, "qemuDomainSaveFlags")?;
    check_state(args.flags, "virDomainSaveFlags")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    overlay::check_movable(&guest.live()?.domain)?;
    driver.save(&guest, Path::new(&*args.to.to_str_lossy()), args.dxml, args.flags).await
}

pub(crate) async fn managed_save(driver: &Qemu, args: DomainManagedSaveArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED, "qemuDomainManagedSave")?;
    check_state(args.flags, "virDomainManagedSave")?;
    let guest = driver.guest(&args.dom)?;
    let _job = guest.job.lock().await;
    guest.live()?;
    if guest.lock().persistent.is_none() {
        return Err(QEMU.operation_invalid("cannot do managed save for transient domain"));
    }
    overlay::check_movable(&guest.live()?.domain)?;
    driver.save(&guest, &driver.shared.dirs.saved(&guest.name), None, args.flags).await?;
    guest.lock().saved = true;
    Ok(())
}

impl Qemu {
    /// Puts a guest's memory into a file and ends the guest. Where that fails the guest goes on.
    async fn save(
        &self,
        guest: &Arc<Guest>,
        path: &Path,
        xml: Option<virtwire_protocol::XdrString>,
        flags: u32,
    ) -> Result<()> {
        let live = guest.live()?;
        if !live.block_jobs.is_empty() {
            return Err(QEMU.operation_invalid("domain has active block job"));
        }
        let ran = guest.lock().state.runs();
        let mut domain = of_run(&live);
        if let Some(xml) = xml {
            domain = replacement(self, &domain, &xml.to_str_lossy()).await?;
        }
        let running = if flags & (RUNNING | PAUSED) == 0 { ran } else { flags & RUNNING != 0 };
        if ran {
            self.change(guest, State::runs, State::PAUSED_SAVE, Lifecycle::SUSPENDED_PAUSED);
            live.monitor.execute(&Stop {}).await.map_err(monitor)?;
        }
        if let Err(error) = put(&live, path, &domain, running).await {
            if ran && live.monitor.execute(&Cont {}).await.is_ok() {
                self.change(
                    guest,
                    |state| !state.runs(),
                    State::RUNNING_SAVE_CANCELED,
                    Lifecycle::RESUMED_UNPAUSED,
                );
            }
            return Err(error);
        }
        self.kill(guest, Ending::Saved).await;
        Ok(())
    }

    /// Starts a guest from its file.
    async fn restore(
        &self,
        guest: &Arc<Guest>,
        image: &Image,
        file: File,
        domain: &Domain,
        flags: u32,
    ) -> Result<()> {
        let running = if flags & (RUNNING | PAUSED) == 0 { image.running } else { flags & RUNNING != 0 };
        self.begin(guest, domain, Begin { paused: !running, memory: Memory::Saved(file) }).await
    }

    /// Starts a guest from where it was saved for its next start, if it was; the file is gone then.
    ///
    /// # Errors
    /// The file cannot be read, or the guest not be started from it.
    pub(crate) async fn start_saved(&self, guest: &Arc<Guest>, paused: bool) -> Result<bool> {
        if !guest.lock().saved {
            return Ok(false);
        }
        let path = self.shared.dirs.saved(&guest.name);
        let (image, file) = Image::read(&path.to_string_lossy())?;
        let domain = Domain::parse(&image.xml, self.options().await?)?;
        let flags = if paused { PAUSED } else { 0 };
        self.restore(guest, &image, file, &domain, flags).await?;
        self.forget_saved(guest)?;
        Ok(true)
    }

    /// Forgets what a guest was saved with.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn forget_saved(&self, guest: &Guest) -> Result<()> {
        let path = self.shared.dirs.saved(&guest.name);
        virtwire_store::remove(&path).map_err(|error| file(&error, "Failed to remove managed save file"))?;
        guest.lock().saved = false;
        Ok(())
    }
}

/// `VIR_DOMAIN_XML_SECURE` and `…_INACTIVE`
const SECURE_INACTIVE: u32 = 1 | 2;

/// A definition in the place of another one, of the same guest.
pub(crate) async fn replacement(driver: &Qemu, domain: &Domain, xml: &str) -> Result<Domain> {
    let new = Domain::parse(xml, driver.options().await?)?;
    if domain.type_ != new.type_ {
        let (source, target) = (domain.type_.as_str(), new.type_.as_str());
        let text = format_args!("Target domain virt type {target} does not match source {source}");
        return Err(QEMU.config_unsupported(text));
    }
    let shown = |domain: &Domain| domain.uuid.unwrap_or_default().hyphenated().to_string();
    let (source, target) = (shown(domain), shown(&new));
    if source != target {
        let text = format_args!("Target domain uuid {target} does not match source {source}");
        return Err(QEMU.config_unsupported(text));
    }
    if domain.name != new.name {
        let text = format_args!("Target domain name '{}' does not match source '{}'", new.name, domain.name);
        return Err(QEMU.config_unsupported(text));
    }
    Ok(new)
}

/// Puts a guest's memory into a file, with a definition of the guest; it stands still afterwards.
///
/// # Errors
/// The file cannot be written, or QEMU says no; the file is gone then.
pub(crate) async fn put(live: &Live, path: &Path, domain: &Domain, running: bool) -> Result<()> {
    let cookie = cookie(&live.domain);
    let cookie = cookie.map(|cookie| write_document("cookie", &cookie, &FormatOptions::default()));
    let xml = text(domain, SECURE_INACTIVE);
    let cookie = cookie.unwrap_or_default();
    let length = (HEADER + xml.len() + cookie.len() + 2 + ROOM) as u64;
    let image = Image { xml, cookie, running, length };
    let saved = write(&live.monitor, path, &image).await;
    // A device stays where it is.
    if saved.is_err() && fs::metadata(path).is_ok_and(|made| made.is_file()) {
        let _ = fs::remove_file(path);
    }
    saved
}

/// Writes a file: marked as whole only once QEMU has written all of its part.
async fn write(qemu: &virtwire_qmp::Monitor, path: &Path, image: &Image) -> Result<()> {
    let cannot = |error: io::Error| file(&error, format_args!("Failed to create file '{}'", path.display()));
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut out = open().map_err(cannot)?;
    out.write_all(&image.bytes(PART)).map_err(cannot)?;
    migrate::out(qemu, out.try_clone().map_err(cannot)?).await?;
    out.seek(SeekFrom::Start(0))
        .and_then(|_| out.write_all(MAGIC))
        .and_then(|()| out.sync_all())
        .map_err(cannot)
}

pub(crate) async fn restore(driver: &Qemu, args: DomainRestoreArgs) -> Result<()> {
    restore_flags(driver, DomainRestoreFlagsArgs { from: args.from, dxml: None, flags: 0 }).await
}

pub(crate) async fn restore_flags(driver: &Qemu, args: DomainRestoreFlagsArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED | RESET_NVRAM, "qemuDomainRestoreInternal")?;
    check_state(args.flags, "virDomainRestoreFlags")?;
    let (image, file) = Image::read(&args.from.to_str_lossy())?;
    let mut domain = Domain::parse(&image.xml, driver.options().await?)?;
    if let Some(xml) = &args.dxml {
        domain = replacement(driver, &domain, &xml.to_str_lossy()).await?;
    }
    let guest = transient(driver, &domain).await?;
    let _job = guest.job.lock().await;
    let restored = driver.restore(&guest, &image, file, &domain, args.flags).await;
    if restored.is_err() && guest.lock().persistent.is_none() {
        driver.remove(&guest);
    }
    restored
}

/// The definition in a file.
async fn shown(driver: &Qemu, path: &str, flags: u32) -> Result<String> {
    let (image, _) = Image::read(path)?;
    let domain = Domain::parse(&image.xml, driver.options().await?)?;
    Ok(text(&domain, flags | SECURE_INACTIVE & !1))
}

/// Puts another definition into a file, where there is room for it.
async fn change(driver: &Qemu, path: &str, xml: &str, flags: u32) -> Result<()> {
    let (mut image, _) = Image::read(path)?;
    let domain = Domain::parse(&image.xml, driver.options().await?)?;
    image.xml = text(&replacement(driver, &domain, xml).await?, SECURE_INACTIVE);
    if flags & (RUNNING | PAUSED) != 0 {
        image.running = flags & RUNNING != 0;
    }
    let bytes = image.bytes(MAGIC);
    if bytes.len() as u64 != image.length {
        return Err(QEMU.operation_failed("new xml too large to fit in file"));
    }
    let cannot =
        |error: io::Error| file(&error, format_args!("failed to write header to domain save file '{path}'"));
    let mut out = OpenOptions::new().write(true).open(path).map_err(cannot)?;
    out.write_all(&bytes).and_then(|()| out.sync_all()).map_err(cannot)
}

pub(crate) async fn image_xml(
    driver: &Qemu,
    args: DomainSaveImageGetXmlDescArgs,
) -> Result<DomainSaveImageGetXmlDescRet> {
    check_flags(args.flags, 1, "qemuDomainSaveImageGetXMLDesc")?;
    Ok(DomainSaveImageGetXmlDescRet {
        xml: shown(driver, &args.file.to_str_lossy(), args.flags).await?.into(),
    })
}

pub(crate) async fn image_define(driver: &Qemu, args: DomainSaveImageDefineXmlArgs) -> Result<()> {
    check_flags(args.flags, RUNNING | PAUSED, "qemuDomainSaveImageDefineXML")?;
    change(driver, &args.file.to_str_lossy(), &args.dxml.to_str_lossy(), args.flags).await
}

/// The file of a guest that was saved for its next start.
fn managed(driver: &Qemu, dom: &NonnullDomain) -> Result<PathBuf> {
    let guest = driver.guest(dom)?;
    if !guest.lock().saved {
        return Err(QEMU.operation_invalid("domain does not have managed save image"));
    }
    Ok(driver.shared.dirs.saved(&guest.name))
}

pub(crate) async fn managed_xml(
    driver: &Qemu,
    args: DomainManagedSaveGetXmlDescArgs,
) -> Result<DomainManagedSaveGetXmlDescRet> {
    check_flags(args.flags, 1, "qemuDomainManagedSaveGetXMLDesc")?;
    let path = managed(driver, &args.dom)?;
    Ok(DomainManagedSaveGetXmlDescRet {
        xml: shown(driver, &path.to_string_lossy(), args.flags).await?.into(),
    })
}

pub(crate) async fn managed_define(driver: &Qemu, args: DomainManagedSaveDefineXmlArgs) -> Result<()> {
    check_flags(args.flags, RUNNING | PAUSED, "qemuDomainManagedSaveDefineXML")?;
    let path = managed(driver, &args.dom)?;
    let xml = args.dxml.map(|xml| xml.to_string()).unwrap_or_default();
    change(driver, &path.to_string_lossy(), &xml, args.flags).await
}

pub(crate) async fn has_managed(
    driver: &Qemu,
    args: DomainHasManagedSaveImageArgs,
) -> Result<DomainHasManagedSaveImageRet> {
    check_flags(args.flags, 0, "qemuDomainHasManagedSaveImage")?;
    let saved = driver.guest(&args.dom)?.lock().saved;
    Ok(DomainHasManagedSaveImageRet { result: saved.into() })
}

pub(crate) async fn managed_remove(driver: &Qemu, args: DomainManagedSaveRemoveArgs) -> Result<()> {
    check_flags(args.flags, 0, "qemuDomainManagedSaveRemove")?;
    driver.forget_saved(&*driver.guest(&args.dom)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtwire_store::Scratch;

    fn image() -> Image {
        Image { xml: "<domain/>".into(), cookie: "<cookie/>".into(), running: true, length: 200 }
    }

    #[test]
    fn what_is_written_is_read_and_the_stream_begins_behind_it() {
        let dir = Scratch::new();
        let path = dir.path().join("saved");
        fs::write(&path, [image().bytes(MAGIC), b"QEVM".to_vec()].concat()).unwrap();
        let (read, mut file) = Image::read(path.to_str().unwrap()).unwrap();
        assert_eq!((read.xml.as_str(), read.cookie.as_str(), read.running), ("<domain/>", "<cookie/>", true));
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), read.length), ("QEVM", 200));
    }

    #[test]
    fn every_cut_and_what_is_no_image_is_refused() {
        let dir = Scratch::new();
        let path = dir.path().join("saved");
        let whole = image().bytes(MAGIC);
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(Image::read(path.to_str().unwrap()).is_err(), "cut at {cut}");
        }
        fs::write(&path, image().bytes(PART)).unwrap();
        assert!(Image::read(path.to_str().unwrap()).is_err(), "not finished");
        let mut long = whole.clone();
        long[20..24].fill(0xff);
        fs::write(&path, long).unwrap();
        assert!(Image::read(path.to_str().unwrap()).is_err(), "more than there can be");
    }
}
