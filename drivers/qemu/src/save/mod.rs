//! Guests whose memory is in a file: saved, restored, and saved where the next start finds it.

mod format;
mod image;
mod stream;

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtwire_conf::table::write_document;
use virtwire_conf::{Domain, FormatOptions};
use virtwire_driver_api::params::{self, Kind};
use virtwire_protocol::error::ErrorDomain;
use virtwire_protocol::remote::*;
use virtwire_qmp::Monitor;
use virtwire_qmp::commands::{Cont, Stop};

use crate::begin::{Begin, Memory};
use crate::define::{text, transient};
use crate::driver::Qemu;
use crate::error::{QEMU, Result, bad_flags, check_flags, file, monitor};
use crate::guest::{Ending, Guest, Live};
use crate::named;
use crate::overlay;
use crate::snapshot::{cookie, of_run};
use crate::state::{Lifecycle, State};
pub(crate) use format::{Format, Formats};
pub(crate) use image::Image;
use image::{HEADER, MAGIC, PART, ROOM};
pub(crate) use stream::Stream;

/// `VIR_DOMAIN_SAVE_…`
const BYPASS_CACHE: u32 = 1;
const RUNNING: u32 = 2;
const PAUSED: u32 = 4;
const RESET_NVRAM: u32 = 8;

/// Flags that say how a guest goes on: at most one of them.
fn check_state(flags: u32, function: &str) -> Result<()> {
    if flags & RUNNING != 0 && flags & PAUSED != 0 {
        let text = "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive";
        return Err(bad_flags(ErrorDomain::DOMAIN, function, text));
    }
    Ok(())
}

/// How a guest is to be saved, or what is saved to be restored.
#[derive(Default)]
struct Wanted {
    flags: u32,
    /// A definition in the place of the guest's.
    xml: Option<String>,
    /// A word for how its memory is to be in the file.
    format: Option<String>,
    channels: Option<u32>,
}

pub(crate) async fn save(driver: &Qemu, args: DomainSaveArgs) -> Result<()> {
    save_flags(driver, DomainSaveFlagsArgs { dom: args.dom, to: args.to, dxml: None, flags: 0 }).await
}

pub(crate) async fn save_flags(driver: &Qemu, args: DomainSaveFlagsArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED, "qemuDomainSaveFlags")?;
    check_state(args.flags, "virDomainSaveFlags")?;
    let wanted = Wanted { flags: args.flags, xml: args.dxml.map(|xml| xml.to_string()), ..Wanted::default() };
    save_to(driver, &args.dom, &args.to.to_str_lossy(), wanted).await
}

/// `VIR_DOMAIN_SAVE_PARAM_…`
mod name {
    pub(super) const FILE: &str = "file";
    pub(super) const XML: &str = "dxml";
    pub(super) const FORMAT: &str = "image_format";
    pub(super) const CHANNELS: &str = "parallel.channels";
}

/// What a client asks for in parameters, and the file; those that are not `known` are refused.
fn asked(given: &[TypedParam], known: &[(&str, Kind)], flags: u32) -> Result<(Option<String>, Wanted)> {
    params::validate(given, known)?;
    let channels = params::int(given, name::CHANNELS);
    if channels.is_some_and(|channels| channels < 1) {
        return Err(QEMU.invalid_arg("number of parallel save channels cannot be less than 1"));
    }
    let wanted = Wanted {
        flags,
        xml: params::text(given, name::XML),
        format: params::text(given, name::FORMAT),
        channels: channels.and_then(|channels| u32::try_from(channels).ok()),
    };
    Ok((params::text(given, name::FILE), wanted))
}

/// Refuses channels where there is only one.
fn check_channels(format: Format, channels: Option<u32>) -> Result<()> {
    if channels.is_some() && format != Format::Sparse {
        let text = "Parallel save is only supported with the 'sparse' save image format";
        return Err(QEMU.invalid_arg(text));
    }
    Ok(())
}

pub(crate) async fn save_params(driver: &Qemu, args: DomainSaveParamsArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED, "qemuDomainSaveParams")?;
    let known = [
        (name::FILE, Kind::String),
        (name::XML, Kind::String),
        (name::FORMAT, Kind::String),
        (name::CHANNELS, Kind::Int),
    ];
    let (path, wanted) = asked(&args.params, &known, args.flags)?;
    match path {
        Some(path) => save_to(driver, &args.dom, &path, wanted).await,
        None => save_managed(driver, &args.dom, wanted).await,
    }
}

async fn save_to(driver: &Qemu, dom: &NonnullDomain, path: &str, wanted: Wanted) -> Result<()> {
    let guest = driver.guest(dom)?;
    let _job = guest.turn().await?;
    overlay::check_movable(&guest.live()?.domain)?;
    driver.save(&guest, Path::new(path), wanted).await
}

pub(crate) async fn managed_save(driver: &Qemu, args: DomainManagedSaveArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED, "qemuDomainManagedSave")?;
    check_state(args.flags, "virDomainManagedSave")?;
    save_managed(driver, &args.dom, Wanted { flags: args.flags, ..Wanted::default() }).await
}

/// Saves a guest where its next start finds it.
async fn save_managed(driver: &Qemu, dom: &NonnullDomain, wanted: Wanted) -> Result<()> {
    let guest = driver.guest(dom)?;
    let _job = guest.turn().await?;
    guest.live()?;
    if guest.lock().persistent.is_none() {
        return Err(QEMU.operation_invalid("cannot do managed save for transient domain"));
    }
    overlay::check_movable(&guest.live()?.domain)?;
    driver.save(&guest, &driver.shared.dirs.saved(&guest.name), wanted).await?;
    guest.lock().saved = true;
    Ok(())
}

impl Qemu {
    /// Puts a guest's memory into a file and ends the guest. Where that fails the guest goes on.
    async fn save(&self, guest: &Arc<Guest>, path: &Path, wanted: Wanted) -> Result<()> {
        let Wanted { flags, xml, format, channels } = wanted;
        let live = guest.live()?;
        let format = self.shared.formats.of_save(format.as_deref())?;
        check_channels(format, channels)?;
        if !live.block_jobs.is_empty() {
            return Err(QEMU.operation_invalid("domain has active block job"));
        }
        let ran = guest.lock().state.runs();
        let mut domain = of_run(&live);
        if let Some(xml) = xml {
            domain = replacement(self, &domain, &xml).await?;
        }
        let running = if flags & (RUNNING | PAUSED) == 0 { ran } else { flags & RUNNING != 0 };
        if ran {
            self.change(guest, State::runs, State::PAUSED_SAVE, Lifecycle::SUSPENDED_PAUSED);
            live.monitor.execute(&Stop {}).await.map_err(monitor)?;
        }
        if let Err(error) = put(&live, path, &domain, running, (format, channels)).await {
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
        running: bool,
        stream: Stream,
        domain: &Domain,
        flags: u32,
    ) -> Result<()> {
        let running = if flags & (RUNNING | PAUSED) == 0 { running } else { flags & RUNNING != 0 };
        self.begin(guest, domain, Begin { paused: !running, memory: Memory::Saved(stream) }).await
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
        let (image, stream) = Image::read(&path.to_string_lossy())?;
        let domain = Domain::parse(&image.xml, self.options().await?)?;
        let flags = if paused { PAUSED } else { 0 };
        self.restore(guest, image.running, stream, &domain, flags).await?;
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
pub(crate) async fn put(
    live: &Live,
    path: &Path,
    domain: &Domain,
    running: bool,
    (format, channels): (Format, Option<u32>),
) -> Result<()> {
    let cookie = cookie(&live.domain);
    let cookie = cookie.map(|cookie| write_document("cookie", &cookie, &FormatOptions::default()));
    let xml = text(domain, SECURE_INACTIVE);
    let cookie = cookie.unwrap_or_default();
    let length = (HEADER + xml.len() + cookie.len() + 2 + ROOM) as u64;
    let image = Image { xml, cookie, running, length, format };
    let saved = write(&live.monitor, path, &image, channels).await;
    // A device stays where it is.
    if saved.is_err() && fs::metadata(path).is_ok_and(|made| made.is_file()) {
        let _ = fs::remove_file(path);
    }
    saved
}

/// Writes a file: marked as whole only once QEMU has written all of its part.
async fn write(qemu: &Monitor, path: &Path, image: &Image, channels: Option<u32>) -> Result<()> {
    let cannot = |error: io::Error| file(&error, format_args!("Failed to create file '{}'", path.display()));
    let mut out = named::new().open(path).map_err(cannot)?;
    out.write_all(&image.bytes(PART)).map_err(cannot)?;
    image.stream(out.try_clone().map_err(cannot)?, channels).fill(qemu).await?;
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
    let wanted = Wanted { flags: args.flags, xml: args.dxml.map(|xml| xml.to_string()), ..Wanted::default() };
    restore_from(driver, &args.from.to_str_lossy(), wanted).await
}

pub(crate) async fn restore_params(driver: &Qemu, args: DomainRestoreParamsArgs) -> Result<()> {
    check_flags(args.flags, BYPASS_CACHE | RUNNING | PAUSED | RESET_NVRAM, "qemuDomainRestoreInternal")?;
    check_state(args.flags, "virDomainRestoreParams")?;
    let known = [(name::FILE, Kind::String), (name::XML, Kind::String), (name::CHANNELS, Kind::Int)];
    let (path, wanted) = asked(&args.params, &known, args.flags)?;
    let none = || QEMU.invalid_arg("missing path to restore from");
    restore_from(driver, &path.ok_or_else(none)?, wanted).await
}

async fn restore_from(driver: &Qemu, path: &str, wanted: Wanted) -> Result<()> {
    let (image, stream) = Image::read(path)?;
    check_channels(image.format, wanted.channels)?;
    let stream = Stream { channels: wanted.channels, ..stream };
    let mut domain = Domain::parse(&image.xml, driver.options().await?)?;
    if let Some(xml) = &wanted.xml {
        domain = replacement(driver, &domain, xml).await?;
    }
    let guest = transient(driver, &domain).await?;
    let _job = guest.job.lock().await;
    let restored = driver.restore(&guest, image.running, stream, &domain, wanted.flags).await;
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
    let mut out = named::options().write(true).open(path).map_err(cannot)?;
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
