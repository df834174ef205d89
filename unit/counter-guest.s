# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest for test-running-guest.c: firmware of 64 KiB for a PC, in place of a
# BIOS. It counts rounds; in each it writes the round's number to both ends of
# every page of RAM between 64 KiB and 4 MiB (but the hole at 640 KiB), after it
# has seen that the number of the round before is still there. So it knows of
# every page whether it came back right from a snapshot.
#
# 0x500: the round; 0x504: the page that is being written; 0x508: the page that
# was found wrong, or 0. A wrong page ends the rounds.

        .set    ROUND, 0x500
        .set    PAGE, 0x504
        .set    WRONG, 0x508
        .set    FIRST, 0x10000
        .set    HOLE, 0xa0000
        .set    HIGH, 0x100000
        .set    END, 0x400000

        .code16
        .text
        .globl  start
start:
        # Real mode, but with a data segment of 4 GiB, to reach all of RAM.
        cli
        lgdtl   %cs:descriptors_end
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $8, %bx
        movw    %bx, %ds
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorl    %ebp, %ebp

next_round:
        incl    %ebp
        movl    %ebp, ROUND
        movl    $FIRST, %esi
next_page:
        movl    %esi, PAGE
        leal    -1(%ebp), %eax
        cmpl    %eax, (%esi)
        jne     wrong
        cmpl    %eax, 4092(%esi)
        jne     wrong
        movl    %ebp, (%esi)
        movl    %ebp, 4092(%esi)
        addl    $4096, %esi
        cmpl    $HOLE, %esi
        jne     1f
        movl    $HIGH, %esi
1:      cmpl    $END, %esi
        jb      next_page
        jmp     next_round

wrong:
        movl    %esi, WRONG
2:      hlt
        jmp     2b

        .balign 8
descriptors:
        .quad   0
        # Data, writable, base 0, limit 4 GiB.
        .quad   0x00cf92000000ffff
descriptors_end:
        .word   descriptors_end - descriptors - 1
        .long   0xf0000 + descriptors

        # Where the processor begins, 16 bytes below 4 GiB.
        .org    0xfff0
        ljmpw   $0xf000, $start
        .org    0x10000
