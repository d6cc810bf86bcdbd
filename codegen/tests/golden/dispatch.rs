#[allow(unused_imports)]
use virtwire_protocol::*;

/// What serves each procedure of program `demo`, by number.
pub static DEMO_PROCS: [Option<Serve>; 12] = [
    None,
    Some(ping),
    Some(get),
    Some(list),
    Some(set),
    None,
    Some(download),
    Some(upload),
    Some(open_fd),
    Some(take_fds),
    None,
    None,
];

/// `DEMO_PROC_PING` (1).
///
/// Behind `virDemoPing`, since libvirt 0.1.0.
fn ping(call: Call, _: &[u8]) -> Serving {
    let driver = call.hypervisor()?;
    Ok(
        Box::pin(async move {
            driver.ping(&call.cx).await?;
            call.done()
        }),
    )
}

/// `DEMO_PROC_GET` (2).
///
/// Behind `virDemoGet`, since libvirt 0.1.0.
fn get(call: Call, payload: &[u8]) -> Serving {
    let mut args = call.decode::<demo::GetArgs>(payload)?;
    call.refuse_if(args.flags & 3 == 3 && args.flags & 4 == 0, 0, args.flags)?;
    call.refuse_read_only_if(args.flags & 1 != 0)?;
    let driver = call.hypervisor()?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                call.resolve(&mut args.dom).await?;
                call.permit("domain", "read", &args.dom).await?;
                if args.flags & 1 == 1 {
                    call.permit("domain", "read_secure", &args.dom).await?;
                }
            }
            call.reply(&driver.get(&call.cx, args).await?)
        }),
    )
}

/// `DEMO_PROC_LIST` (3).
///
/// Behind `virDemoList`, since libvirt 0.2.0.
fn list(call: Call, payload: &[u8]) -> Serving {
    let mut args = call.decode::<demo::ListArgs>(payload)?;
    call.refuse_if(args.need_results > 1, 0, args.need_results)?;
    let driver = call.hypervisor()?;
    Ok(
        Box::pin(async move {
            let mut only_count = false;
            if call.is_guarded() {
                call.permit("connect", "search_domains", &()).await?;
                only_count = std::mem::replace(&mut args.need_results, 1) == 0;
            }
            let mut ret = driver.list(&call.cx, args).await?;
            if call.is_guarded() {
                call.retain(&mut ret.params, "domain", "getattr", |item| item).await;
                ret.ret = ret.params.len() as u32;
                if only_count {
                    ret.params.clear();
                }
            }
            call.reply(&ret)
        }),
    )
}

/// `DEMO_PROC_SET` (4).
///
/// Behind `virDemoSet`, since libvirt 0.2.0.
fn set(call: Call, payload: &[u8]) -> Serving {
    let args = call.decode::<demo::SetArgs>(payload)?;
    call.refuse_if(args.params.is_empty(), 0, 0)?;
    call.refuse_if(args.source >= 2, 1, args.source as i32)?;
    call.refuse_read_only_if(args.source == 1)?;
    let driver = call.hypervisor()?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                if args.flags & 3 == 0 {
                    call.permit("domain", "write", &()).await?;
                }
                if args.source == 1 {
                    call.permit("domain", "save", &()).await?;
                }
            }
            driver.set(&call.cx, args).await?;
            call.done()
        }),
    )
}

/// `DEMO_PROC_DOWNLOAD` (6).
///
/// Behind `virDemoDownload`, since libvirt 0.3.0.
fn download(call: Call, payload: &[u8]) -> Serving {
    let args = call.decode::<demo::DownloadArgs>(payload)?;
    call.refuse_if(args.path.is_empty() && [1, 2].contains(&args.flags), 0, 0)?;
    let driver = call.hypervisor()?;
    let stream = call.open_stream(args.flags & 2 != 0)?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                call.permit("storage_vol", "data_read", &()).await?;
            }
            driver.download(&call.cx, args, stream).await?;
            call.done()
        }),
    )
}

/// `DEMO_PROC_UPLOAD` (7).
///
/// Behind `virDemoUpload`.
fn upload(call: Call, payload: &[u8]) -> Serving {
    let args = call.decode::<demo::UploadArgs>(payload)?;
    let driver = call.hypervisor()?;
    let stream = call.open_stream(false)?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                call.permit("storage_vol", "data_write", &()).await?;
            }
            driver.upload(&call.cx, args, stream).await?;
            call.done()
        }),
    )
}

/// `DEMO_PROC_OPEN_FD` (8).
fn open_fd(call: Call, payload: &[u8]) -> Serving {
    let args = call.decode::<demo::OpenFdArgs>(payload)?;
    let driver = call.hypervisor()?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                call.permit("domain", "open_graphics", &()).await?;
            }
            let fds = driver.open_fd(&call.cx, args).await?;
            call.done_with(fds)
        }),
    )
}

/// `DEMO_PROC_TAKE_FDS` (9).
fn take_fds(mut call: Call, _: &[u8]) -> Serving {
    let driver = call.hypervisor()?;
    let fds = call.take_descriptors(0, 32)?;
    Ok(
        Box::pin(async move {
            if call.is_guarded() {
                call.permit("domain", "write", &()).await?;
            }
            call.reply(&driver.take_fds(&call.cx, fds).await?)
        }),
    )
}
