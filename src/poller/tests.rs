use super::sweep::SWEEP_EVERY_NS;
use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

unsafe fn notify(_: *const FdNode) {}

fn poller() -> Poller {
    Poller::new().unwrap()
}

#[test]
fn a_second_reader_is_busy_a_writer_is_not() {
    let p = poller();
    let (a, _b) = UnixStream::pair().unwrap();
    let n: Vec<FdNode> = (0..3).map(|_| FdNode::new(notify).exclusive()).collect();
    assert_eq!(p.add(&n[0], a.as_raw_fd(), READ), Ok(Added::Waiting));
    assert_eq!(p.add(&n[1], a.as_raw_fd(), READ), Err(Error::BUSY));
    assert_eq!(p.add(&n[2], a.as_raw_fd(), WRITE), Ok(Added::Waiting));
    p.poll(Some(0)).unwrap();
    assert!(n[0].is_linked() && !n[2].is_linked());
    assert_eq!(n[2].got.get(), WRITE);
    p.remove(&n[0]);
    assert_eq!(p.waiting(), 0);
}

#[test]
fn waiting_again_after_a_partial_read_is_ready() {
    let p = poller();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"two").unwrap();
    for _ in 0..3 {
        let n = FdNode::new(notify);
        p.add(&n, a.as_raw_fd(), READ).unwrap();
        p.verify();
        assert_eq!(p.poll(Some(0)), Ok(1));
        assert_eq!(n.got.get(), READ);
        a.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn an_event_that_nobody_wants_comes_a_few_times_only() {
    let p = poller();
    let come = || (0..100).take_while(|_| p.poll(Some(0)) == Ok(1)).count();
    let (a, mut b) = UnixStream::pair().unwrap();
    let n = FdNode::new(notify);
    p.add(&n, a.as_raw_fd(), READ).unwrap();
    p.remove(&n);
    b.write_all(b"x").unwrap();
    assert_eq!(come(), usize::from(BORNE) + 1);
    drop(b);
    assert_eq!(come(), usize::from(BORNE) + 1); // the hang-up
    assert_eq!(p.add(&n, a.as_raw_fd(), READ), Ok(Added::Waiting));
    assert_eq!(p.poll(Some(0)), Ok(1));
    assert_ne!(n.got.get() & HUP, 0);
}

#[test]
fn reuse_of_a_number_tells_the_old_waiter_and_serves_the_new_one() {
    let p = poller();
    let (a, _b) = UnixStream::pair().unwrap();
    let (c, mut d) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    let (old, new) = (FdNode::new(notify).exclusive(), FdNode::new(notify).exclusive());
    p.add(&old, fd, READ).unwrap();
    // SAFETY: both are open descriptors of this test.
    assert_eq!(unsafe { libc::dup2(c.as_raw_fd(), fd) }, fd);
    assert_eq!(p.add(&new, fd, READ), Ok(Added::Waiting));
    assert_eq!(old.got.get(), GONE);
    d.write_all(b"x").unwrap();
    p.verify();
    p.poll(Some(0)).unwrap();
    assert_eq!(new.got.get(), READ);
}

#[test]
fn the_sweep_finds_a_descriptor_closed_while_waited_for() {
    let p = poller();
    let (a, _b) = UnixStream::pair().unwrap();
    let n = FdNode::new(notify);
    p.add(&n, a.as_raw_fd(), READ).unwrap();
    p.sweep(1);
    drop(a);
    p.sweep(1 + SWEEP_EVERY_NS);
    assert_eq!(wake_code(n.got.get()), Error::BADF.code());
    assert_eq!(p.sweep_due(), None);
}

#[test]
fn a_number_that_comes_back_as_a_file_is_gone_for_the_old_waiter_and_ready_for_the_new_one() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    for sweeps in [false, true] {
        let p = poller();
        let (a, _b) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        let (old, new) = (FdNode::new(notify).exclusive(), FdNode::new(notify));
        p.add(&old, fd, READ).unwrap();
        // SAFETY: both are open descriptors of this test.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), fd) }, fd);
        assert_eq!(p.add(&new, fd, READ), Ok(Added::Waiting)); // it trusts
        if sweeps {
            p.sweep(1);
            p.sweep(1 + SWEEP_EVERY_NS);
        } else {
            p.verify();
        }
        assert_eq!(wake_code(old.got.get()), Error::BADF.code());
        assert_eq!((new.got.get(), new.is_linked()), (READ, false));
        assert_eq!((p.linked(), p.has_unverified()), (0, sweeps));
    }
}

#[test]
fn a_file_that_can_not_be_registered_any_more_wakes_who_waits_for_it() {
    let p = poller();
    let (a, _b) = UnixStream::pair().unwrap();
    let (fd, n) = (a.as_raw_fd(), FdNode::new(notify));
    p.add(&n, fd, READ).unwrap();
    p.remove(&n);
    // An epoll can not be registered with itself.
    // SAFETY: both are open descriptors of this test.
    assert_eq!(unsafe { libc::dup2(p.epoll_fd.get(), fd) }, fd);
    assert_eq!(p.add(&n, fd, READ), Ok(Added::Waiting)); // it trusts
    p.verify();
    assert_eq!((wake_code(n.got.get()), n.is_linked()), (Error::INVAL.code(), false));
}

#[test]
fn what_a_foreign_loop_watches_stays_when_the_epoll_is_made_anew() {
    let p = poller();
    let (a, mut b) = UnixStream::pair().unwrap();
    let n = FdNode::new(notify);
    let (outer, inner) = (p.outer_fd().unwrap(), p.epoll_fd.get());
    p.add(&n, a.as_raw_fd(), READ).unwrap();
    p.renew().unwrap();
    assert_ne!(p.epoll_fd.get(), inner);
    assert_eq!(p.outer_fd(), Ok(outer));
    b.write_all(b"x").unwrap();
    let mut fds = [libc::pollfd { fd: outer, events: libc::POLLIN, revents: 0 }];
    assert_eq!(sys::poll_now(&mut fds), Ok(1));
    assert_eq!(p.poll(Some(0)), Ok(1));
    assert_eq!(n.got.get(), READ);
}

#[test]
fn files_never_block_and_closed_numbers_are_refused() {
    let p = poller();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let n = FdNode::new(notify);
    assert_eq!(p.add(&n, file.as_raw_fd(), READ), Ok(Added::AlwaysReady));
    assert_eq!(p.add(&n, null.as_raw_fd(), READ), Ok(Added::AlwaysReady));
    for bad in [-1, i32::MAX, i32::MIN, 9999] {
        assert_eq!(p.add(&n, bad, READ), Err(Error::BADF));
    }
}
