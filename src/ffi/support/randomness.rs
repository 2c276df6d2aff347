//! Checks that the system gives random bytes. Asks in the same way as aws-lc, because without
//! random bytes aws-lc aborts the process, and the standard library panics.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;

/// Asks the system until it has succeeded once. Does not notice a filter that is installed later.
pub(crate) fn probe() -> Result<()> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    if !GIVEN.load(Ordering::Relaxed) {
        system::ask()?;
        GIVEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::fd::AsRawFd;

    use crate::error::{Error, Result, Status, shortage};

    /// The number of bits that aws-lc waits for.
    const ENOUGH_BITS: libc::c_int = 256;

    pub(super) fn ask() -> Result<()> {
        let refused = loop {
            let mut byte = 0u8;
            let (out, len) = (&raw mut byte, size_of_val(&byte));
            // SAFETY: `out` is writable for `len` bytes. The raw call: the C library's may answer
            // without the kernel.
            let got = unsafe { libc::syscall(libc::SYS_getrandom, out, len, libc::GRND_NONBLOCK) };
            if got == 1 {
                return Ok(());
            }
            let refused = io::Error::last_os_error();
            if refused.kind() != io::ErrorKind::Interrupted {
                break refused;
            }
        };
        match refused.raw_os_error() {
            Some(libc::ENOSYS) => ask_device(),
            Some(libc::EAGAIN) => Err(not_yet()),
            _ => Err(filtered(
                "randomness: the system call getrandom was refused, as by a seccomp filter; allow it",
                &refused,
            )),
        }
    }

    /// Does the same as aws-lc on a kernel without getrandom.
    fn ask_device() -> Result<()> {
        let refused = |e| {
            let what = "randomness: there is no system call getrandom, and no /dev/urandom in its place; allow one of them";
            filtered(what, &e)
        };
        let mut device = File::open("/dev/urandom").map_err(refused)?;
        let mut bits: libc::c_int = 0;
        // SAFETY: the request writes one int.
        if unsafe {
            libc::ioctl(
                device.as_raw_fd(),
                libc::_IOR::<libc::c_int>(b'R' as u32, 0),
                &raw mut bits,
            )
        } != 0
        {
            return Err(refused(io::Error::last_os_error()));
        }
        if bits < ENOUGH_BITS {
            return Err(not_yet());
        }
        device.read_exact(&mut [0]).map_err(refused)
    }

    /// The system has no randomness for this process, or lacks a descriptor for a moment.
    fn filtered(what: &str, reason: &io::Error) -> Error {
        let passes = shortage(reason).is_some();
        Error::io(Status::System, what, reason).with_retryable(passes)
    }

    fn not_yet() -> Error {
        let message = "randomness: the system has just started and has gathered too little; try again in a moment";
        Error::new(Status::System, message)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    /// Elsewhere randomness cannot be refused.
    pub(super) fn ask() -> crate::error::Result<()> {
        Ok(())
    }
}
