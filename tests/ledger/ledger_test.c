/*
 * The ledger: layout, refusal of anything else, slots claimed by several threads and processes,
 * request records.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/ledger/ledger.h"
#include "engine/ledger/metrics.h"

static struct topology shape(uint32_t a, uint32_t d)
{
    return (struct topology){
        .api_servers_count = a, .engines_count = d, .tp = 1, .pp = 1, .max_model_len = 4096};
}

static struct ledger make(uint32_t a, uint32_t d)
{
    struct topology t = shape(a, d);
    struct ledger l;
    struct error error = {0};
    assert_int_equal(ledger_create(&t, &l, &error), STATUS_OK);
    return l;
}

static void a_second_mapping_sees_the_first(void **state)
{
    (void)state;
    struct ledger l = make(2, 3);
    int64_t before = clock_now_ns();
    assert_true(ledger_epoch_ns(&l) <= before && ledger_epoch_ns(&l) > before - 60000000000);
    struct ledger again;
    assert_int_equal(ledger_open(dup(l.fd), &again, NULL), STATUS_OK);
    assert_int_equal(again.topology->engines_count, 3);
    assert_int_equal(again.records_count, 2 * LEDGER_RECORDS_PER_API_SERVER);
    assert_int_equal(ledger_epoch_ns(&again), ledger_epoch_ns(&l));
    struct ledger_thread *t = ledger_thread_claim(&l, THREAD_ENGINE_MAIN, 2, 0);
    ledger_add(&t->steps_count, 41);
    ledger_add(&t->steps_count, 1);
    assert_int_equal(ledger_threads_count(&again), 1);
    assert_int_equal(ledger_get(&again.threads[0].steps_count), 42);
    assert_int_equal(again.threads[0].pid, getpid());
    assert_int_equal(again.threads[0].kind, THREAD_ENGINE_MAIN);
    assert_int_equal(again.threads[0].state, LEDGER_THREAD_LIVE);
    ledger_thread_end(t);
    assert_int_equal(again.threads[0].state, LEDGER_THREAD_ENDED);
    again.metrics[1].engines[2].success[1] = 7;
    assert_int_equal(l.metrics[1].engines[2].success[1], 7);
    ledger_close(&again);
    ledger_close(&l);
    ledger_close(&l);
}

static void the_port_of_node_0_is_seen_by_all(void **state)
{
    (void)state;
    struct topology t = {.api_servers_count = 1, .engines_count = 1, .tp = 1, .pp = 1};
    struct ledger first;
    struct ledger second;
    assert_int_equal(ledger_create(&t, &first, NULL), STATUS_OK);
    assert_int_equal(ledger_open(dup(first.fd), &second, NULL), STATUS_OK);
    ledger_set_handshake_port(&first, 29550);
    assert_int_equal(second.topology->handshake_port, 29550);
    ledger_close(&second);
    ledger_close(&first);
}

static void untouched_memory_takes_no_pages(void **state)
{
    (void)state;
    struct ledger l = make(64, 64);
    struct stat st;
    assert_int_equal(fstat(l.fd, &st), 0);
    assert_true(st.st_size > 64 * 1024 * 1024);
    assert_true(st.st_blocks * 512 < 1024 * 1024);
    ledger_close(&l);
}

static void the_file_can_not_be_cut(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    assert_int_equal(ftruncate(l.fd, 4096), -1);
    ledger_close(&l);
}

static void impossible_topologies_are_refused(void **state)
{
    (void)state;
    struct ledger l;
    struct error error = {0};
    struct topology t = shape(0, 1);
    assert_int_equal(ledger_create(&t, &l, &error), STATUS_INVALID);
    t = shape(1, TOPOLOGY_ENGINES_MAX + 1);
    assert_int_equal(ledger_create(&t, &l, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "engine cores"));
    t = shape(1, 1);
    t.tp = 65536;
    t.pp = 65536;
    assert_int_equal(ledger_create(&t, &l, &error), STATUS_INVALID);
}

/* A copy of `l`'s first `bytes` in a memfd of `size`, with the byte at `offset` changed; SIZE_MAX
 * changes none. */
static int forged(const struct ledger *l, size_t size, size_t offset, bool sealed)
{
    int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    unsigned char head[8192];
    memcpy(head, l->header, sizeof head);
    if (offset < sizeof head) {
        head[offset] ^= 0x40;
    }
    size_t bytes = size < sizeof head ? size : sizeof head;
    assert_int_equal(write(fd, head, bytes), bytes);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    if (sealed) {
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    }
    return fd;
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    struct ledger other;
    struct error error = {0};
    int good = forged(&l, l.bytes, SIZE_MAX, true);
    assert_int_equal(ledger_open(good, &other, &error), STATUS_OK);
    ledger_close(&other);
    int unsealed = forged(&l, l.bytes, SIZE_MAX, false);
    assert_int_equal(ledger_open(unsealed, &other, &error), STATUS_PROTOCOL);
    (void)close(unsealed);
    /* magic, version, sizes of structs, offsets: the first 72 bytes are the layout, and each of
     * them counts. */
    for (size_t offset = 0; offset < 72; offset++) {
        int fd = forged(&l, l.bytes, offset, true);
        assert_int_equal(ledger_open(fd, &other, &error), STATUS_PROTOCOL);
        (void)close(fd);
    }
    static const size_t SIZES[] = {0, 8, 71, 72, 200, 4096, 8192};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        int fd = forged(&l, SIZES[i], SIZE_MAX, true);
        assert_int_equal(ledger_open(fd, &other, &error), STATUS_PROTOCOL);
        (void)close(fd);
    }
    int bigger = forged(&l, l.bytes + 4096, SIZE_MAX, true);
    assert_int_equal(ledger_open(bigger, &other, &error), STATUS_PROTOCOL);
    (void)close(bigger);
    assert_int_equal(ledger_open(-1, &other, &error), STATUS_PROTOCOL);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(ledger_open(pipes[0], &other, &error), STATUS_PROTOCOL);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    ledger_close(&l);
}

static void a_version_mismatch_says_so(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    int fd = forged(&l, l.bytes, 8, true); /* the version follows the magic */
    struct ledger other;
    struct error error = {0};
    assert_int_equal(ledger_open(fd, &other, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "version 66, want 2"));
    (void)close(fd);
    ledger_close(&l);
}

enum {
    CLAIMERS = 4,
    CLAIMS = 50
};

static void *claim_many(void *argument)
{
    struct ledger *l = argument;
    for (uint32_t i = 0; i < CLAIMS; i++) {
        struct ledger_thread *t = ledger_thread_claim(l, THREAD_WORKER_MAIN, i, 0);
        ledger_add(&t->turns_count, 1);
    }
    return NULL;
}

static void every_claim_gets_a_slot_of_its_own(void **state)
{
    (void)state;
    struct ledger l = make(1, 1);
    pthread_t threads[CLAIMERS];
    /* First the process, then the threads: a fork of a program with threads is another matter. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)claim_many(&l);
        _exit(0);
    }
    for (int i = 0; i < CLAIMERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, claim_many, &l), 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (int i = 0; i < CLAIMERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    uint32_t count = ledger_threads_count(&l);
    assert_int_equal(count, (CLAIMERS + 1) * CLAIMS);
    uint32_t of_child = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(ledger_get(&l.threads[i].turns_count), 1);
        of_child += l.threads[i].pid == child ? 1 : 0;
    }
    assert_int_equal(of_child, CLAIMS);
    ledger_close(&l);
}

static void slots_share_no_cache_line(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct ledger_thread) % 64, 0);
    struct ledger l = make(1, 1);
    assert_int_equal((uintptr_t)l.threads % 64, 0);
    ledger_close(&l);
}

static void records_are_found_by_their_id(void **state)
{
    (void)state;
    struct ledger l = make(3, 1);
    for (uint32_t a = 0; a < 3; a++) {
        static const uint64_t NUMBERS[] = {0, 1, 65535, 65536, 65537, 1000000007};
        for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++) {
            uint32_t serial = ledger_record_begin(&l, a, NUMBERS[i]);
            uint64_t index = a * 65536 + NUMBERS[i] % 65536;
            assert_int_equal(serial, (NUMBERS[i] / 65536 % 1024) << 22 | index);
            char id[64];
            (void)snprintf(id, sizeof id, "cmpl-x-%08x", serial);
            assert_ptr_equal(ledger_record_of_id(&l, id), &l.records[index]);
        }
    }
    /* A request whose place went to a later one has no record any more: its stamps must not land
     * there. */
    uint32_t early = ledger_record_begin(&l, 1, 7);
    assert_non_null(ledger_record_of_serial(&l, early));
    uint32_t late = ledger_record_begin(&l, 1, 7 + 65536);
    assert_null(ledger_record_of_serial(&l, early));
    assert_ptr_equal(ledger_record_of_serial(&l, late), &l.records[65536 + 7]);
    static const char *const BAD[] = {
        "",           "-",           "1",          "00000001",   "x00000001",
        "x-0000001",  "x-00030000",  "x-ffffffff", "x-0000000g", "x-0000000A",
        "x- 0000001", "x-00000001 ", "x--0000001", "x-+0000001",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_null(ledger_record_of_id(&l, BAD[i]));
    }
    assert_int_equal(ledger_record_begin(&l, 2, 65535), 0x2ffff);
    assert_ptr_equal(ledger_record_of_id(&l, "-0002ffff"), &l.records[3 * 65536 - 1]);
    ledger_close(&l);
}

static void a_record_begun_again_is_empty_and_counts_as_lost(void **state)
{
    (void)state;
    struct ledger l = make(2, 1);
    uint32_t serial = ledger_record_begin(&l, 1, 5);
    struct ledger_record *r = &l.records[serial];
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        ledger_stamp(r, (enum ledger_hop)hop, 100 + hop);
    }
    r->client_number = 9;
    r->engine = 0;
    r->prompt_tokens = 128;
    r->output_tokens = 3;
    r->finish = 2;
    assert_int_equal(ledger_records_begun(&l, 1), 1);
    assert_int_equal(ledger_records_lost(&l, 1), 0);
    assert_int_equal(ledger_record_begin(&l, 1, 5 + 65536), serial | 1U << 22);
    assert_int_equal(ledger_records_begun(&l, 1), 2);
    assert_int_equal(ledger_records_lost(&l, 1), 1);
    assert_int_equal(ledger_records_lost(&l, 0), 0);
    assert_int_equal(r->client_number, 0);
    assert_int_equal(r->engine, UINT32_MAX);
    assert_int_equal(r->api_server, 1);
    assert_int_equal(r->prompt_tokens + r->cached_tokens + r->output_tokens + r->finish, 0);
    for (int hop = 0; hop < HOPS_COUNT; hop++) {
        assert_int_equal(r->hop_ns[hop], 0);
    }
    ledger_close(&l);
}

static void names_are_all_there(void **state)
{
    (void)state;
    for (int k = 0; k < THREAD_KINDS_COUNT; k++) {
        assert_true(strlen(ledger_thread_kind_name((enum ledger_thread_kind)k)) > 0);
        assert_true(strlen(ledger_thread_stage((enum ledger_thread_kind)k)) > 0);
    }
    assert_string_equal(ledger_thread_kind_name(THREAD_ENGINE_INPUT), "engine_input");
    assert_string_equal(ledger_thread_stage(THREAD_ENGINE_MAIN), "scheduler");
    assert_string_equal(ledger_hop_name(HOP_API_LAST_WRITE), "api_last_write");
    assert_string_equal(ledger_launch_class_name(LAUNCH_CLASS_GRAPH), "graph");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_mapping_sees_the_first),
        cmocka_unit_test(the_port_of_node_0_is_seen_by_all),
        cmocka_unit_test(untouched_memory_takes_no_pages),
        cmocka_unit_test(the_file_can_not_be_cut),
        cmocka_unit_test(impossible_topologies_are_refused),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(a_version_mismatch_says_so),
        cmocka_unit_test(every_claim_gets_a_slot_of_its_own),
        cmocka_unit_test(slots_share_no_cache_line),
        cmocka_unit_test(records_are_found_by_their_id),
        cmocka_unit_test(a_record_begun_again_is_empty_and_counts_as_lost),
        cmocka_unit_test(names_are_all_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
