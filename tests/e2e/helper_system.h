/*
 * helper_system.h - real serving systems for end-to-end tests: started on loopback with a private
 * TMPDIR, and after the end searched for what they left behind (processes that still hold the
 * ledger, socket folders, children).
 */
#ifndef TESTS_E2E_HELPER_SYSTEM_H
#define TESTS_E2E_HELPER_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "harness/run/system.h"

enum {
    HANG_MS = 30000, /* nothing in these tests may take longer: a hang, not a speed */
    GONE_MS = 8000,  /* one deadline of 5 s for everything that has to end, and a margin */
};

/* First and last thing of a test program's main(): private TMPDIR; it must be empty at the end. */
void e2e_begin(void);
int e2e_end(int failures);
/* Long tests run only with HARNESS_TEST_FULL=1. */
bool e2e_full(void);
void e2e_sleep_ms(int64_t ms);
/* Asks every few ms until it is true; false after limit_ms. */
bool e2e_wait(bool (*met)(void *ctx), void *ctx, int64_t limit_ms);

/* A port of 127.0.0.1 that nobody has, and that the kernel gives to nobody who asks for any. */
uint32_t e2e_free_port(void);

/* qwen2.5-0.5b on an emulated H100 (a decode step takes less than 1 ms), profile native, reuseport.
 */
struct topology e2e_topology(uint32_t api_servers, uint32_t engines);
void e2e_start(const struct topology *topology, struct system *out);
/* Ends it, asserts that nothing is left, and frees it. */
void e2e_stop(struct system *s);

/* What a system must not leave behind. */
struct remains {
    uint64_t ledger_device;
    uint64_t ledger_inode;
    char folder[96];
};

struct remains remains_of(const struct system *s);
/* Processes of the system that are alive: those with the ledger as descriptor 3. */
uint32_t remains_processes(const struct remains *r);
bool remains_folder(const struct remains *r);
/* Waits at most GONE_MS for the processes to go. */
void remains_assert_none(const struct remains *r);
/* No child of this program is alive or unreaped. */
void e2e_assert_no_children(void);

/* The slot of a thread; NULL if there is none. */
struct ledger_thread *e2e_thread(const struct system *s, enum ledger_thread_kind kind,
                                 uint32_t instance, uint32_t sub);
/* Sum of a counter over all threads of a kind. `offset` is offsetof(struct ledger_thread, counter).
 */
uint64_t e2e_sum(const struct system *s, enum ledger_thread_kind kind, size_t offset);
#define E2E_SUM(system, kind, counter) \
    e2e_sum((system), (kind), offsetof(struct ledger_thread, counter))

#endif
