//! One call of an open connection: a byte for the program, two for the procedure, the arguments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_fuzz::{converse, daemon_of, header, opening, run};
use virtwire_protocol::{admin, frame, lxc, qemu, remote};
use virtwired::Program;

fuzz_target!(|data: &[u8]| {
    let [program, high, low, arguments @ ..] = data else { return };
    let program =
        [&remote::PROGRAM, &admin::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM][usize::from(program % 4)];
    let server = if program.number == admin::PROGRAM.number { Program::Admin } else { Program::Remote };
    let number = usize::from(u16::from_be_bytes([*high, *low])) % (program.procedures.len() + 1);
    let call = header(program.number, number as i32, 2);
    let Ok(call) = frame::encode_bytes(&call, arguments) else { return };
    let all = [opening(server), call].concat();
    run(async { converse(daemon_of(server), &all, all.len(), Some(2)).await });
});
