//! Raw corosensei: the floor for every switch of a library built on it.

use corosensei::{stack::DefaultStack, Coroutine, CoroutineResult};
use weald_bench_peers::{cpu_ns, report_ns, run_row};

type Echo = Coroutine<usize, usize, ()>;

/// A coroutine that hands back what it gets, until it gets 0.
fn echo() -> Echo {
    let stack = DefaultStack::new(64 * 1024).expect("a stack");
    Coroutine::with_stack(stack, |suspender, mut value: usize| {
        while value != 0 {
            value = suspender.suspend(value);
        }
    })
}

fn finish(mut coroutine: Echo) {
    assert!(matches!(coroutine.resume(0), CoroutineResult::Return(())));
}

/// Main and one coroutine.
fn switch(n: [usize; 4]) {
    let mut coroutine = echo();
    let t0 = cpu_ns();
    for i in 1..=n[0] {
        coroutine.resume(i);
    }
    report_ns("ns", t0, n[0]);
    finish(coroutine);
}

/// Two coroutines. They are asymmetric: the way from one to the other is through main.
fn switch2(n: [usize; 4]) {
    let (mut a, mut b) = (echo(), echo());
    let t0 = cpu_ns();
    for i in 1..=n[0] {
        a.resume(i);
        b.resume(i);
    }
    report_ns("ns", t0, n[0]);
    finish(a);
    finish(b);
}

fn main() {
    run_row(&[("switch", switch), ("switch2", switch2)]);
}
