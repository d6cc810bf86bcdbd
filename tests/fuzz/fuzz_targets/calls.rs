//! One call of an open connection: a byte for the program, two for the procedure, the arguments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtwire_fuzz::{converse, daemon, header, opening, run};
use virtwire_protocol::{frame, lxc, qemu, remote};

fuzz_target!(|data: &[u8]| {
    let [program, high, low, arguments @ ..] = data else { return };
    let program =
        [&remote::PROGRAM, &remote::PROGRAM, &qemu::PROGRAM, &lxc::PROGRAM][usize::from(program % 4)];
    let number = usize::from(u16::from_be_bytes([*high, *low])) % (program.procedures.len() + 1);
    let call = header(program.number, number as i32, 2);
    let Ok(call) = frame::encode_bytes(&call, arguments) else { return };
    let all = [opening(), call].concat();
    run(async { converse(daemon(), &all, all.len(), Some(2)).await });
});
