//! Kernel calls that no safe crate offers. The only file with `unsafe`.
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
    set_scheduling(SchedulerAttributes {
        runtime_ns: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        ..SchedulerAttributes::default()
    })
}

/// The `nice` value of [`run_in_background`].
const BACKGROUND_NICE: i32 = 19;

/// Lets the calling thread step back: on a core that others want as well it gets about a hundredth, and those that wake
/// there hardly wait for it. Not less than that (`SCHED_IDLE`): it shall get on where cores are always busy.
pub fn run_in_background() -> io::Result<()> {
    set_scheduling(SchedulerAttributes { nice: BACKGROUND_NICE, ..SchedulerAttributes::default() })
}

/// Of the calling thread.
fn set_scheduling(mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = size_of::<SchedulerAttributes>() as u32;
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

/// The number of file descriptors that this process may have open.
pub fn descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one `rlimit`, to a live one.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if outcome == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

/// Has the allocator give blocks of `bytes` and more back to the system as soon as they are freed. By itself it raises
/// that bound with every large block that is freed, up to 32 MiB, and then keeps the holes that large payloads leave:
/// under a flood of those the process came to twice what it held. False if the allocator knows no such thing.
#[cfg(target_env = "gnu")]
pub fn return_blocks_from(bytes: u32) -> bool {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: it sets a number inside the allocator, under the allocator's own lock.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) == 1 }
}

/// Only glibc's allocator needs this.
#[cfg(not(target_env = "gnu"))]
pub fn return_blocks_from(_bytes: u32) -> bool {
    false
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

/// For how long the machine at the other end of a TCP connection has answered nothing at all, although the kernel has
/// asked it several times: sent data again, or probed a closed window. Zero while it answers, however little its program
/// reads. (`TCP_USER_TIMEOUT` does not tell the two apart: it also ends a connection whose peer answers every probe, but
/// keeps its window closed.)
pub fn unanswered_time(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    let info = tcp_info(socket)?;
    // The first question may just be under way.
    let asked = info.tcpi_retransmits.max(info.tcpi_probes);
    Ok(if 2 <= asked { Duration::from_millis(info.tcpi_last_ack_recv.into()) } else { Duration::ZERO })
}

/// How many bytes the other end of a TCP connection has acknowledged. The opening and the end of this direction count for one
/// each.
pub fn acknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<u64> {
    tcp_info(socket).map(|info| info.tcpi_bytes_acked)
}

/// Fields that the kernel does not know yet are zero.
fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: all zeroes is a valid `tcp_info`; the kernel writes at most the length it is given.
    let (outcome, info) = unsafe {
        let mut info: libc::tcp_info = MaybeUninit::zeroed().assume_init();
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        let place = (&raw mut info).cast();
        (libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length), info)
    };
    if outcome == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

/// The id of the user `name`; `None` if there is none.
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    // SAFETY: all zeroes is a valid `passwd`.
    let mut entry: libc::passwd = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut found = std::ptr::null_mut();
    look_up(name, |name, buffer, length| {
        // SAFETY: a text that ends in zero, a live entry, a live buffer of that length, and a live place for the outcome.
        unsafe { libc::getpwnam_r(name, &raw mut entry, buffer, length, &raw mut found) }
    })?;
    Ok((!found.is_null()).then_some(entry.pw_uid))
}

/// The id of the group `name`; `None` if there is none.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    // SAFETY: all zeroes is a valid `group`.
    let mut entry: libc::group = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut found = std::ptr::null_mut();
    look_up(name, |name, buffer, length| {
        // SAFETY: as above.
        unsafe { libc::getgrnam_r(name, &raw mut entry, buffer, length, &raw mut found) }
    })?;
    Ok((!found.is_null()).then_some(entry.gr_gid))
}

/// The largest buffer for one entry of the system's users or groups: a group may have many members.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Calls `ask` with ever larger buffers, until the entry fits.
fn look_up(
    name: &str,
    mut ask: impl FnMut(*const libc::c_char, *mut libc::c_char, usize) -> libc::c_int,
) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        match ask(name.as_ptr(), buffer.as_mut_ptr(), buffer.len()) {
            0 => return Ok(()),
            libc::ERANGE if buffer.len() < ENTRY_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            // What some systems say where there is nobody of that name.
            libc::ENOENT | libc::ESRCH => return Ok(()),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// How many of the bytes written to `socket` have not reached the other end: for TCP, what is not acknowledged; for a unix
/// socket, what is not read.
pub fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one `c_int`, to a live one.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if outcome == 0 { Ok(usize::try_from(count).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// Whether `socket` is open and nothing has arrived on it: neither bytes, nor its end, nor a failure. Takes nothing away.
pub fn has_nothing_to_read(socket: BorrowedFd<'_>) -> bool {
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most the one byte that it is given.
    let count = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
    count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// The machine's monotonic clock: the time since some moment that is the same for all its processes.
pub fn monotonic_now() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, to a live one. It fails on no Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
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
    fn what_a_peer_has_not_taken_is_known() {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let receiver = net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (mut sender, _) = listener.accept().expect("connected");
        assert_eq!(unacknowledged_bytes(sender.as_fd()).expect("a socket"), 0);
        sender.set_nonblocking(true).expect("a socket");
        while sender.write(&[0; 65_536]).is_ok() {}
        assert!(0 < unacknowledged_bytes(sender.as_fd()).expect("a socket"));
        assert_eq!(unanswered_time(sender.as_fd()).expect("TCP"), Duration::ZERO, "it answers, but does not read");
        drop(receiver);
        let (sender, _receiver) = std::os::unix::net::UnixStream::pair().expect("descriptors are at hand");
        (&sender).write_all(b"hello").expect("open");
        assert!(5 <= unacknowledged_bytes(sender.as_fd()).expect("a socket"));
        assert!(unanswered_time(sender.as_fd()).is_err(), "not TCP");
    }

    #[test]
    fn what_a_peer_has_taken_is_counted() {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _receiver = net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (mut sender, _) = listener.accept().expect("connected");
        sender.write_all(&[0; 1000]).expect("there is room");
        let deadline = realtime_now() + Duration::from_secs(5);
        while acknowledged_bytes(sender.as_fd()).expect("TCP") < 1000 {
            assert!(realtime_now() < deadline, "nothing is acknowledged");
        }
        assert!(acknowledged_bytes(sender.as_fd()).expect("TCP") <= 1002);
    }

    #[test]
    fn users_and_groups_have_numbers() {
        assert_eq!((user_id("root").expect("readable"), group_id("root").expect("readable")), (Some(0), Some(0)));
        assert_eq!((user_id("no-such-user").ok(), group_id("no-such-group").ok()), (Some(None), Some(None)));
        assert!(user_id("a\0b").is_err());
    }

    #[test]
    fn the_background_is_entered() {
        std::thread::spawn(|| {
            run_in_background().expect("any thread may step back");
            // The fields behind the thread's name, which is in parentheses; its nice value is field 19 of all.
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
            let behind = stat.rsplit_once(") ").expect("a name").1;
            assert_eq!(behind.split(' ').nth(19 - 3), Some("19"), "{stat}");
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_short_slice_is_accepted() {
        std::thread::spawn(|| request_short_slice(Duration::from_micros(100)).expect("any thread may ask"))
            .join()
            .expect("no panic");
    }
}
