/*
 * golden_test.c - our bytes against msgspec's (golden.txt), both ways. With the argument `print` it
 * writes `name hex` of each message instead, for `make_golden.py check`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/hash.h"
#include "tests/wire/helper.h"

static void encoder_writes_the_golden_bytes(void **state)
{
    (void)state;
    size_t count;
    size_t compared = 0;
    struct golden *goldens = goldens_load(&count);
    struct wire_buffer b = {0};
    for (size_t i = 0; i < count; i++) {
        const struct golden *g = &goldens[i];
        if (strcmp(g->name, g->sample->name) != 0) {
            continue;
        }
        wire_buffer_reset(&b);
        message_encode(&b, &g->sample->message);
        if (b.bytes != g->bytes || memcmp(b.data, g->data, g->bytes) != 0) {
            print_error("%s differs\n", g->name);
        }
        assert_int_equal(b.bytes, g->bytes);
        assert_memory_equal(b.data, g->data, g->bytes);
        compared++;
    }
    assert_true(compared >= 30);
    wire_buffer_free(&b);
    goldens_free(goldens, count);
}

static void decoder_reads_the_golden_bytes(void **state)
{
    (void)state;
    size_t count;
    struct golden *goldens = goldens_load(&count);
    struct wire_decoder *d;
    struct error error = {.text = ""};
    assert_int_equal(wire_decoder_create(&d, &error), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        const struct golden *g = &goldens[i];
        struct message m = {.kind = g->sample->message.kind};
        if (message_decode(d, g->data, g->bytes, &m, &error) != STATUS_OK) {
            fail_msg("%s: %s", g->name, error.text);
        }
        assert_message_equal(&g->sample->message, &m);
        if (m.kind == MESSAGE_REQUEST) {
            assert_true(m.request.prompt_hash ==
                        hash64(g->sample->message.request.prompt_token_ids,
                               m.request.prompt_tokens_count * sizeof(uint32_t), 0));
        }
    }
    wire_decoder_free(d);
    goldens_free(goldens, count);
}

/* Whatever the coordinator's map leaves out must still arrive when it is not 0. */
static void counts_carry_skipped_step_and_wave(void **state)
{
    (void)state;
    const struct scheduler_stats stats = {.running_count = 1,
                                          .skipped_waiting_count = 2,
                                          .step_counter = 3,
                                          .current_wave = 4,
                                          .kv_cache_usage = 0.75};
    const struct message m = {.kind = MESSAGE_COUNTS,
                              .outputs = {.stats = &stats, .wave_complete = -1, .start_wave = -1}};
    struct message got = {.kind = MESSAGE_COUNTS};
    struct wire_buffer b = {0};
    struct wire_decoder *d;
    assert_int_equal(wire_decoder_create(&d, NULL), STATUS_OK);
    message_encode(&b, &m);
    assert_int_equal(message_decode(d, b.data, b.bytes, &got, NULL), STATUS_OK);
    assert_message_equal(&m, &got);
    assert_memory_equal(b.data + 3, "\x86", 1); /* 6 keys of 16 */
    wire_decoder_free(d);
    wire_buffer_free(&b);
}

static void identities_are_little_endian(void **state)
{
    (void)state;
    unsigned char identity[2];
    uint32_t rank = 77;
    wire_identity(258, identity);
    assert_memory_equal(identity, "\x02\x01", 2);
    assert_int_equal(wire_identity_rank("\x02\x01", 2, &rank, NULL), STATUS_OK);
    assert_int_equal(rank, 258);
    assert_int_equal(wire_identity_rank("\x02\x01\x00", 3, &rank, NULL), STATUS_PROTOCOL);
    assert_int_equal(wire_identity_rank("\x02", 1, &rank, NULL), STATUS_PROTOCOL);
    assert_int_equal(rank, 258);
}

static int print_messages(void)
{
    struct wire_buffer b = {0};
    for (size_t i = 0; i < helper_samples_count; i++) {
        const char *name = helper_samples[i].name;
        /* Samples without a golden of their own: their bytes are only read, never written. */
        if (strcmp(name, "add_rust") == 0 || strstr(name, "_bytes") != NULL ||
            strcmp(name, "utility_list_full") == 0) {
            continue;
        }
        wire_buffer_reset(&b);
        message_encode(&b, &helper_samples[i].message);
        (void)printf("%s ", name);
        for (size_t k = 0; k < b.bytes; k++) {
            (void)printf("%02x", (unsigned)(unsigned char)b.data[k]);
        }
        (void)printf("\n");
    }
    wire_buffer_free(&b);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "print") == 0) {
        return print_messages();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_writes_the_golden_bytes),
        cmocka_unit_test(decoder_reads_the_golden_bytes),
        cmocka_unit_test(counts_carry_skipped_step_and_wave),
        cmocka_unit_test(identities_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
