//! A picture of the screen, as a stream.

use virtwire_conf::domain::display::Video;
use virtwire_driver_api::{FromClient, StreamEnd, ToClient};
use virtwire_protocol::remote::{DomainScreenshotArgs, DomainScreenshotRet};
use virtwire_qmp::commands::Screendump;

use crate::driver::Qemu;
use crate::error::{QEMU, Result, check_flags, file, monitor};
use crate::written;

/// Bytes that a picture can have: more than four screens of 8K, three bytes a pixel.
const MOST: u64 = 512 << 20;
/// Bytes sent at a time.
const CHUNK: usize = 256 << 10;

pub(crate) async fn shot(
    driver: &Qemu,
    args: DomainScreenshotArgs,
    stream: StreamEnd,
) -> Result<DomainScreenshotRet> {
    check_flags(args.flags, 0, "qemuDomainScreenshot")?;
    let live = driver.guest(&args.dom)?.live()?;
    let videos = &live.domain.devices.videos;
    if videos.is_empty() {
        return Err(QEMU.operation_invalid("no screens to take screenshot from"));
    }
    let heads = |video: &Video| video.model.as_ref().and_then(|model| model.heads).unwrap_or(1);
    if args.screen >= videos.iter().map(heads).sum() {
        return Err(QEMU.operation_invalid("no such screen ID"));
    }
    let path = live.dir.join("screen");
    let mut command = Screendump { filename: path.display().to_string(), ..Screendump::default() };
    // QEMU before 7.1 knows only one format.
    let png = live.monitor.is_at_least(7, 1);
    command.format = png.then(|| "png".to_owned());
    live.monitor.execute(&command).await.map_err(monitor)?;
    let picture = written::take(&path, MOST).map_err(|e| file(&e, "unable to open stream"))?;
    tokio::spawn(send(picture, stream));
    Ok(DomainScreenshotRet { mime: Some(if png { "image/png" } else { "image/x-portable-pixmap" }.into()) })
}

async fn send(picture: Vec<u8>, mut stream: StreamEnd) {
    for part in picture.chunks(CHUNK) {
        if stream.outgoing.send(ToClient::Data(part.to_vec())).await.is_err() {
            return;
        }
    }
    if stream.outgoing.send(ToClient::End).await.is_ok() {
        // The stream lives until the client has had enough.
        while let Some(FromClient::Data(_) | FromClient::Hole(_)) = stream.incoming.recv().await {}
    }
}
