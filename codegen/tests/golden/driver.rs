#[allow(unused_imports)]
use virtwire_protocol::*;

/// Domains and the host: a method per procedure. One that is left out answers `VIR_ERR_NO_SUPPORT`.
#[async_trait::async_trait]
pub trait HypervisorDriver: Send + Sync {
    /// `DEMO_PROC_PING` (1).
    ///
    /// Behind `virDemoPing`, since libvirt 0.1.0.
    async fn ping(&self, cx: &CallCx) -> Result<(), VirtError> {
        let _ = cx;
        Err(ErrorDomain(0).no_support("virDemoPing"))
    }

    /// `DEMO_PROC_GET` (2).
    ///
    /// Behind `virDemoGet`, since libvirt 0.1.0.
    async fn get(
        &self,
        cx: &CallCx,
        args: demo::GetArgs,
    ) -> Result<demo::GetRet, VirtError> {
        let _ = (cx, args);
        Err(ErrorDomain(0).no_support("virDemoGet"))
    }

    /// `DEMO_PROC_LIST` (3).
    ///
    /// Behind `virDemoList`, since libvirt 0.2.0.
    async fn list(
        &self,
        cx: &CallCx,
        args: demo::ListArgs,
    ) -> Result<demo::ListRet, VirtError> {
        let _ = (cx, args);
        Err(ErrorDomain(0).no_support("virDemoList"))
    }

    /// `DEMO_PROC_SET` (4).
    ///
    /// Behind `virDemoSet`, since libvirt 0.2.0.
    async fn set(&self, cx: &CallCx, args: demo::SetArgs) -> Result<(), VirtError> {
        let _ = (cx, args);
        Err(ErrorDomain(0).no_support("virDemoSet"))
    }

    /// `DEMO_PROC_DOWNLOAD` (6).
    ///
    /// Behind `virDemoDownload`, since libvirt 0.3.0.
    async fn download(
        &self,
        cx: &CallCx,
        args: demo::DownloadArgs,
        stream: StreamEnd,
    ) -> Result<(), VirtError> {
        let _ = (cx, args, stream);
        Err(ErrorDomain(0).no_support("virDemoDownload"))
    }

    /// `DEMO_PROC_UPLOAD` (7).
    ///
    /// Behind `virDemoUpload`.
    async fn upload(
        &self,
        cx: &CallCx,
        args: demo::UploadArgs,
        stream: StreamEnd,
    ) -> Result<(), VirtError> {
        let _ = (cx, args, stream);
        Err(ErrorDomain(0).no_support("virDemoUpload"))
    }

    /// `DEMO_PROC_OPEN_FD` (8).
    async fn open_fd(
        &self,
        cx: &CallCx,
        args: demo::OpenFdArgs,
    ) -> Result<Vec<std::os::fd::OwnedFd>, VirtError> {
        let _ = (cx, args);
        Err(ErrorDomain(0).no_support("OPEN_FD"))
    }

    /// `DEMO_PROC_TAKE_FDS` (9).
    async fn take_fds(
        &self,
        cx: &CallCx,
        fds: Vec<std::os::fd::OwnedFd>,
    ) -> Result<demo::TakeFdsRet, VirtError> {
        let _ = (cx, fds);
        Err(ErrorDomain(0).no_support("TAKE_FDS"))
    }
}

/// Puts the signature of a procedure's method before what a row of `serve!` says of it.
#[doc(hidden)]
#[macro_export]
macro_rules! signature {
    (ping $($row:tt)*) => {
        $crate::method! { ping() -> (), $($row)* }
    };

    (get $($row:tt)*) => {
        $crate::method! { get(args : $crate::demo::GetArgs) -> $crate::demo::GetRet,
        $($row)* }
    };

    (list $($row:tt)*) => {
        $crate::method! { list(args : $crate::demo::ListArgs) -> $crate::demo::ListRet,
        $($row)* }
    };

    (set $($row:tt)*) => {
        $crate::method! { set(args : $crate::demo::SetArgs) -> (), $($row)* }
    };

    (download $($row:tt)*) => {
        $crate::method! { download(args : $crate::demo::DownloadArgs, stream :
        $crate::StreamEnd) -> (), $($row)* }
    };

    (upload $($row:tt)*) => {
        $crate::method! { upload(args : $crate::demo::UploadArgs, stream :
        $crate::StreamEnd) -> (), $($row)* }
    };

    (open_fd $($row:tt)*) => {
        $crate::method! { open_fd(args : $crate::demo::OpenFdArgs) -> Vec <
        std::os::fd::OwnedFd >, $($row)* }
    };

    (take_fds $($row:tt)*) => {
        $crate::method! { take_fds(fds : Vec < std::os::fd::OwnedFd >) ->
        $crate::demo::TakeFdsRet, $($row)* }
    };
}
