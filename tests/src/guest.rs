//! A guest of 129 bytes, so that a test can tell from its serial console that a machine really ran.
//!
//! It is a boot sector. It prints [`BANNER`] on the first serial port, then answers each character typed there: small
//! letters come back as capitals, so that an answer can't be mistaken for an echo of the terminal, and everything else as
//! it is, except
//!
//! | | |
//! |---|---|
//! | `q` | powers the machine off through ACPI, as does its power button |
//! | `r` | resets the machine through the keyboard controller |
//!
//! It runs on QEMU's `pc` and `q35` machines under SeaBIOS, which puts the power management registers at port 0x600.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use crate::repo;

/// The first line on the serial console, without its line end.
pub const BANNER: &str = "virtwire guest is up";

/// The size of [`write_image`]'s disk in bytes. SeaBIOS boots no virtio disk of a single sector.
pub const IMAGE_SIZE: usize = 1 << 20;

/// The code, loaded at 0x7c00: bytes and what they mean.
#[rustfmt::skip]
const CODE: &[(&[u8], &str)] = &[
    (&[0xfa],             "        cli"),
    (&[0x31, 0xc0],       "        xor ax, ax"),
    (&[0x8e, 0xd8],       "        mov ds, ax"),
    (&[0x8e, 0xd0],       "        mov ss, ax"),
    (&[0xbc, 0x00, 0x7c], "        mov sp, 0x7c00"),
    (&[0xfb],             "        sti             ; the timer ends each hlt"),
    (&[0xba, 0x02, 0x06], "        mov dx, 0x602   ; PM1 enable register"),
    (&[0xb8, 0x00, 0x01], "        mov ax, 0x100   ; bit 8: power button"),
    (&[0xef],             "        out dx, ax"),
    (&[0xbe, 0x6a, 0x7c], "        mov si, banner"),
    (&[0xac],             "print:  lodsb"),
    (&[0x84, 0xc0],       "        test al, al"),
    (&[0x74, 0x05],       "        je idle"),
    (&[0xe8, 0x3e, 0x00], "        call putc"),
    (&[0xeb, 0xf6],       "        jmp print"),
    (&[0xf4],             "idle:   hlt"),
    (&[0xba, 0x00, 0x06], "poll:   mov dx, 0x600   ; PM1 status register"),
    (&[0xed],             "        in ax, dx"),
    (&[0xf6, 0xc4, 0x01], "        test ah, 1      ; bit 8: power button pressed"),
    (&[0x75, 0x23],       "        jne off"),
    (&[0xba, 0xfd, 0x03], "        mov dx, 0x3fd   ; line status of COM1"),
    (&[0xec],             "        in al, dx"),
    (&[0xa8, 0x01],       "        test al, 1      ; a character is there"),
    (&[0x74, 0xee],       "        je idle"),
    (&[0xba, 0xf8, 0x03], "        mov dx, 0x3f8   ; data of COM1"),
    (&[0xec],             "        in al, dx"),
    (&[0x3c, b'q'],       "        cmp al, 'q'"),
    (&[0x74, 0x13],       "        je off"),
    (&[0x3c, b'r'],       "        cmp al, 'r'"),
    (&[0x74, 0x18],       "        je reset"),
    (&[0x3c, b'a'],       "        cmp al, 'a'"),
    (&[0x72, 0x06],       "        jb answer"),
    (&[0x3c, b'z'],       "        cmp al, 'z'"),
    (&[0x77, 0x02],       "        ja answer"),
    (&[0x24, 0xdf],       "        and al, 0xdf    ; capital"),
    (&[0xe8, 0x11, 0x00], "answer: call putc"),
    (&[0xeb, 0xd4],       "        jmp poll"),
    (&[0xba, 0x04, 0x06], "off:    mov dx, 0x604   ; PM1 control register"),
    (&[0xb8, 0x00, 0x20], "        mov ax, 0x2000  ; sleep enable, type 0: soft off"),
    (&[0xef],             "        out dx, ax"),
    (&[0xeb, 0xca],       "        jmp idle"),
    (&[0xb0, 0xfe],       "reset:  mov al, 0xfe    ; pulse the reset line"),
    (&[0xe6, 0x64],       "        out 0x64, al"),
    (&[0xeb, 0xc4],       "        jmp idle"),
    (&[0x50],             "putc:   push ax"),
    (&[0xba, 0xfd, 0x03], "full:   mov dx, 0x3fd"),
    (&[0xec],             "        in al, dx"),
    (&[0xa8, 0x20],       "        test al, 0x20   ; there is room for a character"),
    (&[0x74, 0xf8],       "        je full"),
    (&[0x58],             "        pop ax"),
    (&[0xba, 0xf8, 0x03], "        mov dx, 0x3f8"),
    (&[0xee],             "        out dx, al"),
    (&[0xc3],             "        ret"),
    (BANNER.as_bytes(),   "banner:"),
    (b"\r\n\0",           ""),
];

/// The boot sector, 512 bytes.
pub fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    let code = CODE.iter().flat_map(|(bytes, _)| *bytes);
    for (place, byte) in sector.iter_mut().zip(code) {
        *place = *byte;
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Writes a raw disk image that boots the guest.
pub fn write_image(path: &Path) -> io::Result<()> {
    let mut disk = boot_sector().to_vec();
    disk.resize(IMAGE_SIZE, 0);
    fs::write(path, disk)
}

/// A domain that boots the guest from `image`, 32 MiB and without a network, under TCG; its serial console is a pty.
pub fn domain_xml(name: &str, image: &Path) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='KiB'>32768</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{image}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'/>
  </devices>
</domain>
",
        image = image.display()
    )
}

/// Writes an emulator that has a monitor and nothing else (`clients/scripted_qemu.py`), where everybody can run it.
///
/// # Panics
/// If it can't be written.
#[track_caller]
pub fn write_emulator(path: &Path) {
    let copied = fs::copy(repo::file("clients/scripted_qemu.py"), path);
    let everybody = fs::Permissions::from_mode(0o755);
    copied
        .and_then(|_| fs::set_permissions(path, everybody))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_labels_agree() {
        let mut at = 0;
        let mut labels = Vec::new();
        for (bytes, text) in CODE {
            if let Some((label, _)) = text.split_once(':').filter(|(label, _)| !label.contains([' ', ';'])) {
                labels.push((label, at));
            }
            at += bytes.len();
        }
        assert_eq!(at, 129, "the code's length");

        let offset = |label: &str| labels.iter().find(|(l, _)| *l == label).map(|(_, at)| *at as i64);
        let mut end = 0;
        for (bytes, text) in CODE {
            end += bytes.len() as i64;
            let target =
                text.split(';').next().and_then(|code| code.split_whitespace().last()).and_then(offset);
            match (bytes, target) {
                ([0x72 | 0x74 | 0x75 | 0x77 | 0xeb, jump], Some(target)) => {
                    assert_eq!(end + i64::from(*jump as i8), target, "{text}");
                }
                ([0xe8, low, high], Some(target)) => {
                    assert_eq!(end + i64::from(i16::from_le_bytes([*low, *high])), target, "{text}");
                }
                ([0xbe, low, high], Some(target)) => {
                    assert_eq!(i64::from(u16::from_le_bytes([*low, *high])), 0x7c00 + target, "{text}");
                }
                (_, target) => assert!(target.is_none() || text.contains(':'), "{text}: not a jump"),
            }
        }
    }
}
