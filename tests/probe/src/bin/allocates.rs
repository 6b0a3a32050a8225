//! A control: this must not link, for there is no allocator.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

probe::probe!(allocates);

fn allocates(outside: probe::Outside<'_>) {
    core::hint::black_box(alloc::vec::Vec::from(outside.input));
}
