/// The procedures of program `demo`.
impl Connection {
    /// `DEMO_PROC_PING` (1).
    ///
    /// Behind `virDemoPing`, since libvirt 0.1.0.
    pub async fn ping(&self) -> Result<(), Error> {
        self.call(&demo::PROGRAM, demo::Procedure::PING.0, &()).await
    }

    /// `DEMO_PROC_GET` (2).
    ///
    /// Behind `virDemoGet`, since libvirt 0.1.0.
    pub async fn get(&self, args: &demo::GetArgs) -> Result<demo::GetRet, Error> {
        self.call(&demo::PROGRAM, demo::Procedure::GET.0, args).await
    }

    /// `DEMO_PROC_LIST` (3).
    ///
    /// Behind `virDemoList`, since libvirt 0.2.0.
    pub async fn list(&self, args: &demo::ListArgs) -> Result<demo::ListRet, Error> {
        self.call(&demo::PROGRAM, demo::Procedure::LIST.0, args).await
    }

    /// `DEMO_PROC_SET` (4).
    ///
    /// Behind `virDemoSet`, since libvirt 0.2.0.
    pub async fn set(&self, args: &demo::SetArgs) -> Result<(), Error> {
        self.call(&demo::PROGRAM, demo::Procedure::SET.0, args).await
    }

    /// `DEMO_PROC_DOWNLOAD` (6).
    ///
    /// Behind `virDemoDownload`, since libvirt 0.3.0.
    pub async fn download(
        &self,
        args: &demo::DownloadArgs,
    ) -> Result<((), Stream), Error> {
        self.call_stream(&demo::PROGRAM, demo::Procedure::DOWNLOAD.0, args).await
    }

    /// `DEMO_PROC_UPLOAD` (7).
    ///
    /// Behind `virDemoUpload`.
    pub async fn upload(&self, args: &demo::UploadArgs) -> Result<((), Stream), Error> {
        self.call_stream(&demo::PROGRAM, demo::Procedure::UPLOAD.0, args).await
    }

    /// `DEMO_PROC_OPEN_FD` (8).
    pub async fn open_fd(
        &self,
        args: &demo::OpenFdArgs,
    ) -> Result<((), Vec<std::os::fd::OwnedFd>), Error> {
        self.call_with_descriptors(
                &demo::PROGRAM,
                demo::Procedure::OPEN_FD.0,
                args,
                Vec::new(),
            )
            .await
    }

    /// `DEMO_PROC_TAKE_FDS` (9).
    pub async fn take_fds(
        &self,
        fds: Vec<std::os::fd::OwnedFd>,
    ) -> Result<demo::TakeFdsRet, Error> {
        Ok(
            self
                .call_with_descriptors(
                    &demo::PROGRAM,
                    demo::Procedure::TAKE_FDS.0,
                    &(),
                    fds,
                )
                .await?
                .0,
        )
    }
}
