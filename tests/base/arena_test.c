/*
 * arena_test.c - arenas: alignment, zeroed and disjoint memory, exact size helpers, exhaustion,
 * untouched pages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/random.h"

struct thing {
    char bytes[13];
};

static void memory_is_aligned_zeroed_and_disjoint(void **state)
{
    (void)state;
    struct arena arena;
    assert_int_equal(arena_create(1 << 20, &arena, NULL), STATUS_OK);
    struct random r = random_stream(1, "arena", 0);
    unsigned char *blocks[200];
    size_t sizes[200];
    for (size_t i = 0; i < 200; i++) {
        sizes[i] = (size_t)random_range(&r, 1, 300);
        blocks[i] = arena_alloc(&arena, sizes[i], 1);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(blocks[i][k], 0);
        }
        memset(blocks[i], (int)(i + 1), sizes[i]);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(blocks[i][k], (unsigned char)(i + 1));
        }
    }
    arena_destroy(&arena);
    assert_null(arena.base);
    arena_destroy(&arena);
}

static void arena_bytes_suffice(void **state)
{
    (void)state;
    for (size_t count = 0; count < 200; count++) {
        struct arena arena;
        size_t bytes =
            ARENA_BYTES(count, struct thing) + ARENA_BYTES(count, char) + ARENA_BYTES(1, int64_t);
        assert_int_equal(arena_create(bytes, &arena, NULL), STATUS_OK);
        (void)ARENA_NEW(&arena, struct thing, count);
        (void)ARENA_NEW(&arena, char, count);
        (void)ARENA_NEW(&arena, int64_t, 1);
        assert_true(arena.used_bytes <= bytes);
        arena_destroy(&arena);
    }
}

static void reservation_costs_no_memory(void **state)
{
    (void)state;
    /* Far more than any machine that runs tests has. */
    struct arena arena;
    struct error error = {0};
    assert_int_equal(arena_create((size_t)1 << 38, &arena, &error), STATUS_OK);
    char *first = arena_alloc(&arena, 1, (size_t)1 << 37);
    char *second = arena_alloc(&arena, 1, 64);
    first[0] = 1;
    second[0] = 2;
    assert_int_equal(first[0] + second[0], 3);
    arena_destroy(&arena);
}

/* Of the mapping that begins at `base`, by the flags that the kernel shows. */
static int takes_no_huge_pages(const void *base)
{
    char line[512];
    int inside = 0;
    int flagged = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    assert_non_null(smaps);
    while (fgets(line, sizeof line, smaps) != NULL) {
        unsigned long from;
        unsigned long end;
        if (sscanf(line, "%lx-%lx ", &from, &end) == 2) {
            inside = (uintptr_t)base >= from && (uintptr_t)base < end;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            flagged = strstr(line, " nh") != NULL;
        }
    }
    (void)fclose(smaps);
    return flagged;
}

static void one_touched_byte_is_no_huge_page(void **state)
{
    (void)state;
    struct arena arena;
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        skip(); /* this kernel is built without huge pages, so that there is nothing to keep out */
    }
    assert_int_equal(arena_create((size_t)1 << 30, &arena, NULL), STATUS_OK);
    assert_true(takes_no_huge_pages(arena.base));
    arena_destroy(&arena);
}

static void impossible_reservation_is_an_error(void **state)
{
    (void)state;
    struct arena arena = {.used_bytes = 7};
    struct error error = {0};
    assert_int_equal(arena_create((size_t)1 << 60, &arena, &error), STATUS_NOMEM);
    assert_int_equal(error.status, STATUS_NOMEM);
    assert_non_null(strstr(error.text, "1152921504606846976"));
    assert_int_equal(arena.used_bytes, 7);
}

/* True if `count * item_bytes` of a 4,096-byte arena ends the process by an assertion. */
static int allocation_aborts(size_t count, size_t item_bytes)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        struct arena arena;
        if (arena_create(4096, &arena, NULL) != STATUS_OK) {
            _exit(1);
        }
        (void)arena_alloc(&arena, count, item_bytes);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void exhaustion_is_a_programmer_error(void **state)
{
    (void)state;
    assert_false(allocation_aborts(4096, 1));
    assert_true(allocation_aborts(4097, 1));
    assert_true(allocation_aborts(SIZE_MAX / 8, 16));
    assert_true(allocation_aborts(SIZE_MAX, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_zeroed_and_disjoint),
        cmocka_unit_test(arena_bytes_suffice),
        cmocka_unit_test(reservation_costs_no_memory),
        cmocka_unit_test(one_touched_byte_is_no_huge_page),
        cmocka_unit_test(impossible_reservation_is_an_error),
        cmocka_unit_test(exhaustion_is_a_programmer_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
