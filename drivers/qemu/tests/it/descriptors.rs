//! What clients hand over: descriptors for disks, and sockets to look at a screen through.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use virtwire_driver_api::{CallCx, HypervisorDriver};
use virtwire_protocol::remote::*;

use crate::host::Host;
use crate::moments::{destroy, start};
use crate::qemu;

/// Groups that one client may have.
const GROUPS: usize = 128;

fn file(host: &Host) -> OwnedFd {
    File::options().read(true).write(true).open(host.dir.join("disk.img")).unwrap().into()
}

async fn associate(host: &Host, cx: &CallCx, dom: &NonnullDomain, name: &str) -> Result<(), String> {
    let args = DomainFdAssociateArgs { dom: dom.clone(), name: name.into(), flags: 0 };
    let given = host.driver.domain_fd_associate(cx, args, vec![file(host)]).await;
    given.map_err(|error| error.message)
}

#[tokio::test]
async fn a_guest_boots_from_a_file_that_a_client_has_opened() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("opened", &host.talking().replace("disk.img'", "none.img' fdgroup='mine'")).await;
    let error = host.driver.domain_create(&cx, DomainCreateArgs { dom: dom.clone() }).await.unwrap_err();
    assert!(error.message.contains("group 'mine' was not associated with the domain"), "{error}");
    associate(&host, &cx, &dom, "mine").await.unwrap();
    start(&host, &dom).await;
    host.console(&dom).await.wake().await;
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn a_client_hands_over_so_many_groups_and_no_more() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let (one, two) = (host.define("one", "").await, host.define("two", "").await);
    for number in 0..GROUPS {
        let dom = if number % 2 == 0 { &one } else { &two };
        associate(&host, &cx, dom, &number.to_string()).await.unwrap();
    }
    let error = associate(&host, &cx, &one, "more").await.unwrap_err();
    assert!(error.contains("too many groups of file descriptors"), "{error}");
    // In the place of another it is no more than before.
    associate(&host, &cx, &one, "0").await.unwrap();
    let other = CallCx { client: cx.client + 1, ..CallCx::default() };
    associate(&host, &other, &one, "more").await.unwrap();
}

#[tokio::test]
async fn a_screen_is_seen_through_a_socket_and_who_sees_it_is_told() {
    if qemu().is_none() {
        return;
    }
    let (mut host, cx) = (Host::new().await, CallCx::default());
    let screen = "<graphics type='vnc'><listen type='socket'/></graphics><video><model type='vga'/></video>";
    let dom = host.define("shows", screen).await;
    start(&host, &dom).await;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let args = |idx| DomainOpenGraphicsArgs { dom: dom.clone(), idx, flags: 1 };
    let refused = host.driver.domain_open_graphics(&cx, args(7), vec![file(&host)]).await.unwrap_err();
    assert!(refused.message.contains("No graphics backend with index 7"), "{refused}");
    host.driver.domain_open_graphics(&cx, args(0), vec![theirs.into()]).await.unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = [0; 12];
        ours.read_exact(&mut said).map(|()| said)
    });
    assert_eq!(&said.await.unwrap().unwrap(), b"RFB 003.008\n");
    // Connected, and gone again with its socket.
    assert_eq!((host.screen().await, host.screen().await), (0, 2));
    destroy(&host, &dom).await;
}

#[tokio::test]
async fn a_guest_that_does_not_sleep_is_not_woken() {
    if qemu().is_none() {
        return;
    }
    let (host, cx) = (Host::new().await, CallCx::default());
    let dom = host.define("awake", "").await;
    let args = |flags| DomainPmWakeupArgs { dom: dom.clone(), flags };
    let error = host.driver.domain_pm_wakeup(&cx, args(0)).await.unwrap_err();
    assert!(error.message.contains("domain is not running"), "{error}");
    start(&host, &dom).await;
    let error = host.driver.domain_pm_wakeup(&cx, args(0)).await.unwrap_err();
    assert!(error.message.contains("guest is not in suspended state"), "{error}");
    assert!(host.driver.domain_pm_wakeup(&cx, args(1)).await.unwrap_err().message.contains("flags"));
    destroy(&host, &dom).await;
}
