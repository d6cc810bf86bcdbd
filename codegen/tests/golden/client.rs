/// The procedures of program `demo`.
impl Connection {
    /// `DEMO_PROC_PING` (1).
    ///
    /// Behind `virDemoPing`, since libvirt 0.1.0.
    pub fn ping(&self) -> Call<()> {
        self.call(&demo::PROGRAM, demo::Procedure::PING.0, &())
    }

    /// `DEMO_PROC_GET` (2).
    ///
    /// Behind `virDemoGet`, since libvirt 0.1.0.
    pub fn get(&self, args: &demo::GetArgs) -> Call<demo::GetRet> {
        self.call(&demo::PROGRAM, demo::Procedure::GET.0, args)
    }

    /// `DEMO_PROC_LIST` (3).
    ///
    /// Behind `virDemoList`, since libvirt 0.2.0.
    pub fn list(&self, args: &demo::ListArgs) -> Call<demo::ListRet> {
        self.call(&demo::PROGRAM, demo::Procedure::LIST.0, args)
    }

    /// `DEMO_PROC_SET` (4).
    ///
    /// Behind `virDemoSet`, since libvirt 0.2.0.
    pub fn set(&self, args: &demo::SetArgs) -> Call<()> {
        self.call(&demo::PROGRAM, demo::Procedure::SET.0, args)
    }

    /// `DEMO_PROC_DOWNLOAD` (6).
    ///
    /// Behind `virDemoDownload`, since libvirt 0.3.0.
    pub fn download(&self, args: &demo::DownloadArgs) -> Call<Stream> {
        self.call_streaming(
            &demo::PROGRAM,
            demo::Procedure::DOWNLOAD.0,
            args,
            call::stream,
        )
    }

    /// `DEMO_PROC_UPLOAD` (7).
    ///
    /// Behind `virDemoUpload`.
    pub fn upload(&self, args: &demo::UploadArgs) -> Call<Stream> {
        self.call_streaming(
            &demo::PROGRAM,
            demo::Procedure::UPLOAD.0,
            args,
            call::stream,
        )
    }

    /// `DEMO_PROC_OPEN_FD` (8).
    pub fn open_fd(&self, args: &demo::OpenFdArgs) -> Call<Vec<OwnedFd>> {
        self.call_taking(
            &demo::PROGRAM,
            demo::Procedure::OPEN_FD.0,
            args,
            Vec::new(),
            call::descriptors,
        )
    }

    /// `DEMO_PROC_TAKE_FDS` (9).
    pub fn take_fds(&self, fds: Vec<OwnedFd>) -> Call<demo::TakeFdsRet> {
        self.call_giving(&demo::PROGRAM, demo::Procedure::TAKE_FDS.0, &(), fds)
    }
}
