//! One call from frame to reply: checks, the first poll in place, a task only for what waits.

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tracing::Span;
use virtwire_protocol::error::{ErrorCode, ErrorDomain, ErrorLevel, VirtError};
use virtwire_protocol::frame::{self, Frame};
use virtwire_protocol::net::{MessageError, MessageHeader, MessageStatus};
use virtwire_protocol::procedures::{Direction, ProcedureInfo, ReadOnly};
use virtwire_protocol::{XdrString, admin, lxc, qemu, remote};

use crate::config::Program;
use crate::dispatch::{ADMIN_PROCS, Call, LXC_PROCS, QEMU_PROCS, REMOTE_PROCS, Reply, Serve, Work};
use crate::reached::Limit;
use crate::session::Session;
use crate::trace;

/// A call with more bytes of arguments than this is a large one.
const LARGE: usize = 64 << 10;

/// Serves a call whose descriptors have been taken in.
pub(crate) fn call(session: &Arc<Session>, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) {
    if trace::serve(session, &frame.header) {
        return;
    }
    let asked = Asked {
        header: frame.header.clone(),
        at: session.service.metrics.is_some().then(Instant::now),
        span: trace::call(session, &frame.header),
    };
    match asked.span.in_scope(|| begin(session, frame, descriptors)) {
        Ok(work) if frame.payload.len() > LARGE => {
            drop(tokio::spawn(aside(Arc::clone(session), asked, work)))
        }
        Ok(work) => run(session, asked, work),
        Err(error) => answer(session, &asked, Err(error)),
    }
}

/// What the answer needs to know of its call.
struct Asked {
    header: MessageHeader,
    /// When it came; only where anybody wants to know.
    at: Option<Instant>,
    /// What happens in it happens for this call.
    span: Span,
}

/// Everything that can be said before the driver is asked.
fn begin(session: &Arc<Session>, frame: &Frame<'_>, descriptors: Vec<OwnedFd>) -> Result<Work, VirtError> {
    let header = &frame.header;
    let (info, serve) = procedure(session.program(), header)?;
    if header.status != MessageStatus::OK {
        return Err(ErrorDomain::RPC.rpc(format_args!("Unexpected message status {}", header.status.0)));
    }
    if info.needs_auth && !session.is_authenticated() {
        return Err(ErrorDomain::RPC.rpc("authentication required"));
    }
    let cx = session.call_cx();
    if cx.read_only && info.readonly == ReadOnly::Refused {
        return Err(info.read_only_refusal());
    }
    let (length, most) = (frame.payload.len(), session.limits().call_arguments);
    if length > most {
        session.reached(Limit::CallArguments);
        let text = format_args!("arguments of {length} bytes are too many, {most} are allowed");
        return Err(ErrorDomain::RPC.rpc(text));
    }
    let call = Call { header: header.clone(), info, cx, session: Arc::clone(session), descriptors };
    serve(call, frame.payload)
}

/// The row of a procedure: what is known of it, and what serves it.
fn procedure(program: Program, header: &MessageHeader) -> Result<(&'static ProcedureInfo, Serve), VirtError> {
    let tables: &[(_, &[Option<Serve>])] = match program {
        Program::Remote => {
            &[(&remote::PROGRAM, &REMOTE_PROCS), (&qemu::PROGRAM, &QEMU_PROCS), (&lxc::PROGRAM, &LXC_PROCS)]
        }
        Program::Admin => &[(&admin::PROGRAM, &ADMIN_PROCS)],
    };
    let table = tables.iter().find(|(known, _)| (known.number, known.version) == (header.prog, header.vers));
    let Some((known, procs)) = table else {
        let text = format_args!("Cannot find program {} version {}", header.prog, header.vers);
        return Err(ErrorDomain::RPC.rpc(text));
    };
    let info = known.procedure(header.proc).filter(|info| info.direction == Direction::Call);
    let serve = usize::try_from(header.proc).ok().and_then(|number| procs.get(number).copied().flatten());
    info.zip(serve).ok_or_else(|| ErrorDomain::RPC.rpc(format_args!("unknown procedure: {}", header.proc)))
}

/// Polls once in place. Most calls never wait, and so cost no task.
fn run(session: &Arc<Session>, asked: Asked, mut work: Work) {
    let mut here = Context::from_waker(Waker::noop());
    let span = trace::driver(&asked.span, session);
    match span.in_scope(|| poll(&mut work, &mut here)) {
        Poll::Ready(result) => {
            drop(span);
            answer(session, &asked, result);
        }
        Poll::Pending => {
            let session = Arc::clone(session);
            session.call_waits();
            tokio::spawn(async move {
                let result = std::future::poll_fn(|cx| span.in_scope(|| poll(&mut work, cx))).await;
                drop((work, span));
                answer(&session, &asked, result);
                session.call_done();
            });
        }
    }
}

/// Wakes the task of a large call.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// The turns of large calls.
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at a time; for 0, half of the processors.
    pub(crate) fn new(most: usize) -> Self {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let most = if most == 0 { processors().div_ceil(2) } else { most };
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for a turn; it is over when what is returned is dropped.
    async fn turn(&self, session: &Session) -> Option<OwnedSemaphorePermit> {
        if self.0.available_permits() == 0 {
            session.reached(Limit::LargeCalls);
        }
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// A large call, where a document may take long to be read: threads beside those that serve everybody work on it, and
/// only some at a time. Where it waits it holds none of them.
async fn aside(session: Arc<Session>, asked: Asked, mut work: Work) {
    session.call_waits();
    let span = trace::driver(&asked.span, &session);
    let woken = Arc::new(Woken::default());
    let result = loop {
        let turn = session.service.large_calls.turn(&session).await;
        let (waker, here) = (Waker::from(Arc::clone(&woken)), span.clone());
        let polled = spawn_blocking(move || {
            let polled = here.in_scope(|| poll(&mut work, &mut Context::from_waker(&waker)));
            drop(turn);
            (work, polled)
        });
        match polled.await {
            Ok((_, Poll::Ready(result))) => break result,
            Ok((rest, Poll::Pending)) => work = rest,
            // The daemon ends.
            Err(error) => break Err(ErrorDomain::RPC.internal_error(error)),
        }
        woken.0.notified().await;
    };
    drop(span);
    answer(&session, &asked, result);
    session.call_done();
}

/// A panic in a handler answers its own call and no more.
fn poll(work: &mut Work, cx: &mut Context<'_>) -> Poll<Result<Reply, VirtError>> {
    std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))).unwrap_or_else(|_| {
        tracing::error!("a handler panicked; its call is answered with an error");
        Poll::Ready(Err(ErrorDomain::RPC.internal_error("the handler of this call failed")))
    })
}

fn answer(session: &Session, asked: &Asked, result: Result<Reply, VirtError>) {
    let (header, failed) = (&asked.header, result.is_err());
    match result {
        Ok(reply) => {
            session.stream_opened(header);
            session.send(reply.frame, reply.descriptors);
        }
        Err(error) => {
            session.stream_refused(header);
            session.send(error_frame(&frame::reply_to(header, MessageStatus::ERROR), &error), Vec::new());
        }
    }
    if let (Some(metrics), Some(at)) = (&session.service.metrics, asked.at) {
        metrics.call(header, at, failed);
    }
}

/// The error that a frame carries.
pub(crate) fn error(message: MessageError) -> VirtError {
    let text = |text: Option<XdrString>| text.map(|text| text.to_str_lossy().into_owned());
    VirtError {
        code: ErrorCode(message.code),
        domain: ErrorDomain(message.domain),
        level: ErrorLevel(message.level),
        message: text(message.message).unwrap_or_default(),
        str1: text(message.str1),
        str2: text(message.str2),
        str3: text(message.str3),
        int1: message.int1,
        int2: message.int2,
    }
}

/// A frame that carries an error.
pub(crate) fn error_frame(header: &MessageHeader, error: &VirtError) -> Vec<u8> {
    let text = |text: &Option<String>| text.as_deref().map(XdrString::from);
    let message = MessageError {
        code: error.code.0,
        domain: error.domain.0,
        message: Some(XdrString::from(&error.message)),
        level: error.level.0,
        str1: text(&error.str1),
        str2: text(&error.str2),
        str3: text(&error.str3),
        int1: error.int1,
        int2: error.int2,
        ..Default::default()
    };
    // Texts of errors are cut when they are made; an error always fits its frame.
    frame::encode(header, 0, &message).unwrap_or_default()
}
