//! The executor: a few tasks, and a processor that sleeps whenever all of them wait.
//!
//! An interrupt only has to call [`wake`]: then every task is polled, and looks at what it waits for. So no driver has to
//! keep wakers. Between each other tasks wake by wakers as usual, each only the one that is meant.

use core::convert::Infallible;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// The most tasks that there can be: the agent, the network stack, and the driver below it.
pub const MAX_TASKS: usize = 3;

/// A task: a future that does not end, pinned by its owner.
pub type Task<'a> = Pin<&'a mut dyn Future<Output = Infallible>>;

/// Which tasks are to be polled. All, at first.
static WOKEN: [AtomicBool; MAX_TASKS] = [const { AtomicBool::new(true) }; MAX_TASKS];

/// Has every task polled again. For interrupts: what they noted before they call this, the tasks see.
pub fn wake() {
    WOKEN.iter().for_each(|woken| woken.store(true, Ordering::Release));
}

/// Runs the tasks. The processor sleeps by WFI, not by WFE, which an emulator may take for a busy loop.
pub fn run<const TASKS: usize>(mut tasks: [Task<'_>; TASKS]) -> ! {
    const { assert!(TASKS <= MAX_TASKS, "each task needs its flag") };
    loop {
        for (task, woken) in tasks.iter_mut().zip(&WOKEN) {
            if woken.load(Ordering::Acquire) {
                begin(woken);
                _ = task.as_mut().poll(&mut Context::from_waker(&waker(woken)));
            }
        }
        sleep_unless(|| WOKEN.iter().take(TASKS).any(|woken| woken.load(Ordering::Acquire)));
    }
}

/// Runs one future to its end, before there are tasks.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, [woken, ..]) = (pin!(future), &WOKEN);
    loop {
        begin(woken);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker(woken))) {
            wake();
            return output;
        }
        sleep_unless(|| woken.load(Ordering::Acquire));
    }
}

/// Notes that a task is about to look: what wakes it from now on has it polled once more.
fn begin(woken: &AtomicBool) {
    woken.store(false, Ordering::Relaxed);
    // No part of the look may move before this: an interrupt between the two would be lost. Against those of the one core
    // the order of the instructions is enough.
    compiler_fence(Ordering::SeqCst);
}

/// Sleeps until an interrupt, unless there is something to do.
///
/// Interrupts are masked between the look and the sleep, so that none is slept through. One that is pending ends the sleep,
/// masked or not, and runs as soon as the section is left.
fn sleep_unless(is_busy: impl FnOnce() -> bool) {
    critical_section::with(|_| {
        if !is_busy() {
            wait_for_interrupt();
        }
    });
}

/// Sleeps until an interrupt is pending.
#[inline(always)]
pub(crate) fn wait_for_interrupt() {
    // SAFETY: the instruction touches neither memory nor registers. ARM and RISC-V give it the same name.
    #[cfg(target_os = "none")]
    unsafe {
        core::arch::asm!("wfi", options(nostack, preserves_flags));
    }
}

fn waker(woken: &'static AtomicBool) -> Waker {
    // SAFETY: the functions of the table take the pointer for what it is, and may be called from anywhere.
    unsafe { Waker::from_raw(raw_waker(woken)) }
}

const fn raw_waker(woken: *const AtomicBool) -> RawWaker {
    static TABLE: RawWakerVTable =
        RawWakerVTable::new(|woken| raw_waker(woken.cast()), wake_one, wake_one, |_| {});
    RawWaker::new(woken.cast(), &TABLE)
}

fn wake_one(woken: *const ()) {
    // SAFETY: it is one of the flags, all of which are static.
    let woken = unsafe { &*woken.cast::<AtomicBool>() };
    woken.store(true, Ordering::Release);
}
