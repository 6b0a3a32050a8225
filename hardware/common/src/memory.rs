//! Copying and filling of memory for ARM, in 120 bytes: the compiler's own take 3 KB, a fifth of all that firmware on a
//! serial line has.
//!
//! By words where both ends are aligned, else by bytes: a few cycles a byte, which no line of ours outruns. Only
//! instructions that a Cortex-M0 has. The linker prefers these to the compiler's, which are weak.

core::arch::global_asm!(
    "
    .section .text.memory, \"ax\"
    .syntax unified
    .thumb

    .macro entry name
    .global \\name
    .type \\name, %function
    .thumb_func
    \\name:
    .endm

    // (to r0, from r1, length r2): gives `to`. May overlap.
    entry memmove
    entry __aeabi_memmove
    entry __aeabi_memmove4
    entry __aeabi_memmove8
    subs r3, r0, r1
    cmp r3, r2
    bhs 5f
    // `to` stands within what is copied: from the end.
1:  subs r2, #1
    blo 2f
    ldrb r3, [r1, r2]
    strb r3, [r0, r2]
    b 1b
2:  bx lr

    // (to r0, from r1, length r2): gives `to`.
    entry memcpy
    entry __aeabi_memcpy
    entry __aeabi_memcpy4
    entry __aeabi_memcpy8
5:  mov r12, r0
    mov r3, r0
    orrs r3, r1
    lsls r3, r3, #30
    bne 3f
1:  subs r2, #4
    blo 2f
    ldm r1!, {{r3}}
    stm r0!, {{r3}}
    b 1b
2:  adds r2, #4
3:  subs r2, #1
    blo 4f
    ldrb r3, [r1]
    strb r3, [r0]
    adds r1, #1
    adds r0, #1
    b 3b
4:  mov r0, r12
    bx lr

    // (one r0, other r1, length r2): gives whether `one` is less, equal or greater, as its sign.
    entry memcmp
    entry bcmp
    mov r12, r4
    adds r2, r0, r2
1:  cmp r0, r2
    beq 2f
    ldrb r3, [r0]
    ldrb r4, [r1]
    adds r0, #1
    adds r1, #1
    subs r3, r3, r4
    beq 1b
    mov r0, r3
    mov r4, r12
    bx lr
2:  movs r0, #0
    mov r4, r12
    bx lr

    // (to r0, length r1)
    entry __aeabi_memclr
    entry __aeabi_memclr4
    entry __aeabi_memclr8
    movs r2, #0

    // (to r0, length r1, byte r2)
    entry __aeabi_memset
    entry __aeabi_memset4
    entry __aeabi_memset8
    mov r3, r1
    mov r1, r2
    mov r2, r3

    // (to r0, byte r1, length r2): gives `to`.
    entry memset
    mov r12, r0
    uxtb r1, r1
    lsls r3, r1, #8
    orrs r1, r3
    lsls r3, r1, #16
    orrs r1, r3
    lsls r3, r0, #30
    bne 3f
1:  subs r2, #4
    blo 2f
    stm r0!, {{r1}}
    b 1b
2:  adds r2, #4
3:  subs r2, #1
    blo 4f
    strb r1, [r0]
    adds r0, #1
    b 3b
4:  mov r0, r12
    bx lr
    "
);
