//! The mailbox of a hub, in every interleaving of its threads. Needs `--cfg loom`: `make loom`.
//!
//! A wake-up that got lost shows as a deadlock of the model: the hub sleeps, nobody rings, loom says so.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

// On its own: the rest of the library is not made of loom's parts.
#[allow(dead_code)]
#[path = "../../src/remote.rs"]
mod remote;

use remote::{Mailbox, Wake};

/// Stands for the poller: it sleeps until rung, and remembers having been rung.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Bell {
        Bell(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn sleep(&self) {
        let (rung, changed) = &*self.0;
        let mut rung = rung.lock().unwrap();
        while !*rung {
            rung = changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        let (rung, changed) = &*self.0;
        *rung.lock().unwrap() = true;
        changed.notify_one();
    }
}

type Box8 = Mailbox<u8, Bell>;

/// What a hub does when it has nothing else to do: takes, or sleeps until there is something.
fn receive(mailbox: &Box8, bell: &Bell, most: usize) -> Vec<u8> {
    loop {
        let got: Vec<u8> = mailbox.take(most).into();
        if !got.is_empty() {
            return got;
        }
        if mailbox.may_sleep() {
            bell.sleep();
        }
        mailbox.awake();
    }
}

/// The mailbox, its bell, and a thread that posts `item`.
fn sender(mailbox: &Arc<Box8>, item: u8) -> thread::JoinHandle<Result<(), u8>> {
    let mailbox = mailbox.clone();
    thread::spawn(move || mailbox.post(item))
}

fn mailbox() -> (Arc<Box8>, Bell) {
    let bell = Bell::new();
    (Arc::new(Mailbox::new(bell.clone())), bell)
}

#[test]
fn a_post_wakes_a_hub_that_goes_to_sleep() {
    loom::model(|| {
        let (mailbox, bell) = mailbox();
        let posting = sender(&mailbox, 1);
        assert_eq!(receive(&mailbox, &bell, 2), [1]);
        assert_eq!(posting.join().unwrap(), Ok(()));
    });
}

/// All interleavings of three threads take hours; those in which each is interrupted at
/// most so often, where the mistakes are, take seconds.
const INTERRUPTIONS: usize = 3;

#[test]
fn posts_of_two_threads_all_arrive() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(INTERRUPTIONS);
    model.check(|| {
        let (mailbox, bell) = mailbox();
        let posting = [sender(&mailbox, 1), sender(&mailbox, 2)];
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(receive(&mailbox, &bell, 2));
        }
        got.sort();
        assert_eq!(got, [1, 2]);
        for thread in posting {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn posts_of_one_thread_arrive_in_order() {
    loom::model(|| {
        let (mailbox, bell) = mailbox();
        let theirs = mailbox.clone();
        let posting = thread::spawn(move || (theirs.post(1), theirs.post(2)));
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(receive(&mailbox, &bell, 2));
        }
        assert_eq!(got, [1, 2]);
        assert_eq!(posting.join().unwrap(), (Ok(()), Ok(())));
    });
}

#[test]
fn what_is_left_in_the_box_is_not_slept_over() {
    loom::model(|| {
        let (mailbox, bell) = mailbox();
        let theirs = mailbox.clone();
        let posting = thread::spawn(move || (theirs.post(1), theirs.post(2)));
        assert_eq!(receive(&mailbox, &bell, 1), [1]);
        assert_eq!(receive(&mailbox, &bell, 1), [2]);
        assert_eq!(posting.join().unwrap(), (Ok(()), Ok(())));
    });
}

#[test]
fn a_hub_that_closes_and_a_post_agree_whose_the_item_is() {
    loom::model(|| {
        let (mailbox, _bell) = mailbox();
        let posting = sender(&mailbox, 7);
        let mut left: Vec<u8> = mailbox.take(2).into();
        left.extend(mailbox.close());
        match posting.join().unwrap() {
            Ok(()) => assert_eq!(left, [7]),
            Err(item) => assert_eq!((item, left.len()), (7, 0)),
        }
    });
}

#[test]
fn a_closed_mailbox_gives_the_item_back() {
    loom::model(|| {
        let (mailbox, _bell) = mailbox();
        mailbox.close();
        let posting = sender(&mailbox, 9);
        assert_eq!(posting.join().unwrap(), Err(9));
        assert!(!mailbox.has_pending());
    });
}
