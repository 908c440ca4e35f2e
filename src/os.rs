//! The few kernel calls no safe crate offers: the only file with `unsafe` in it.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Default)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Asks the fair scheduler for a short slice: a thread that wakes often and works briefly then runs sooner after waking,
/// without getting more of the processor. Linux 6.12 and later heed it; earlier kernels ignore the wish.
pub fn request_short_slice(slice: Duration) -> io::Result<()> {
    let attributes = SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        runtime_ns: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        ..SchedulerAttributes::default()
    };
    // SAFETY: the kernel reads `size` bytes of a live struct laid out as it documents; thread 0 is the caller.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0u32) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the number of descriptors this process may have open to what it may raise it to; returns that.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to one live `rlimit`.
    let outcome = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    if outcome == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel stamp what arrives on `socket`, for [`receive_timestamped`].
pub fn enable_receive_timestamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a live `c_int`, and its length is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads from `socket` into `buffer`: how many bytes, and when the kernel received the last of them (Unix time).
pub fn receive_timestamped(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
    // Room for one `timespec` with its header, aligned as control messages must be.
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid `msghdr`; its pointers are set to live buffers with their lengths before the call.
    let (count, message) = unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        (libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0), message)
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel filled `control` and its length; the macros stay within them, and the payload of a
    // `SCM_TIMESTAMPNS` is a `timespec`, read unaligned.
    let stamp = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_stamp = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_TIMESTAMPNS;
        is_stamp.then(|| libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned())
    };
    Ok((count, stamp.map(|stamp| Duration::new(stamp.tv_sec.unsigned_abs(), stamp.tv_nsec as u32))))
}

/// The wall clock, as the kernel's receive stamps use it (Unix time).
pub fn realtime_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net, os::fd::AsFd};

    use super::*;

    #[test]
    fn the_kernel_stamps_what_arrives() {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut sender = net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (receiver, _) = listener.accept().expect("connected");
        enable_receive_timestamps(receiver.as_fd()).expect("the option exists");
        // The kernel switches its stamping on a moment after the first socket asks for it.
        let deadline = realtime_now() + Duration::from_secs(5);
        while realtime_now() < deadline {
            let before = realtime_now();
            sender.write_all(b"hello").expect("open");
            let mut buffer = [0; 16];
            let (count, stamp) = receive_timestamped(receiver.as_fd(), &mut buffer).expect("readable");
            assert_eq!(&buffer[..count], b"hello");
            if let Some(stamp) = stamp {
                assert!(before <= stamp + Duration::from_millis(1) && stamp <= realtime_now(), "{before:?} {stamp:?}");
                return;
            }
        }
        panic!("nothing was stamped");
    }

    #[test]
    fn a_short_slice_is_accepted() {
        std::thread::spawn(|| request_short_slice(Duration::from_micros(100)).expect("any thread may ask"))
            .join()
            .expect("no panic");
    }
}
