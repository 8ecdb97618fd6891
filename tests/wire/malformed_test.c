/*
 * malformed_test.c - bodies that are cut, extended, of other number types, wrong or hostile. Wrong
 * ones must give an error that names the field and leave the out-parameter alone; newer peers'
 * additions must be read over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "tests/wire/helper.h"

struct fixture {
    struct golden *goldens;
    size_t count;
    struct wire_decoder *decoder;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->goldens = goldens_load(&f->count);
    assert_int_equal(wire_decoder_create(&f->decoder, NULL), STATUS_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    goldens_free(f->goldens, f->count);
    wire_decoder_free(f->decoder);
    free(f);
    return 0;
}

static void every_truncation_is_a_protocol_error(void **state)
{
    const struct fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) {
        const struct golden *g = &f->goldens[i];
        for (size_t bytes = 0; bytes < g->bytes; bytes++) {
            unsigned char *cut = malloc(bytes > 0 ? bytes : 1);
            assert_non_null(cut);
            memcpy(cut, g->data, bytes);
            struct message m = {.kind = g->sample->message.kind};
            const struct message before = m;
            struct error error = {.text = ""};
            assert_int_equal(message_decode(f->decoder, cut, bytes, &m, &error), STATUS_PROTOCOL);
            assert_int_equal(error.status, STATUS_PROTOCOL);
            assert_true(strlen(error.text) > 0);
            assert_memory_equal(&m, &before, sizeof m);
            free(cut);
        }
    }
}

static void bytes_behind_the_body_are_an_error(void **state)
{
    const struct fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) {
        const struct golden *g = &f->goldens[i];
        unsigned char *longer = malloc(g->bytes + 1);
        assert_non_null(longer);
        memcpy(longer, g->data, g->bytes);
        longer[g->bytes] = 0xc0;
        struct message m = {.kind = g->sample->message.kind};
        assert_int_equal(message_decode(f->decoder, longer, g->bytes + 1, &m, NULL),
                         STATUS_PROTOCOL);
        free(longer);
    }
}

/* The body with `added` behind its last element and a header that counts `added_count` more. */
static unsigned char *extended(const struct golden *g, const char *added_hex, unsigned added_count,
                               size_t *bytes)
{
    size_t added_bytes;
    unsigned char *added = bytes_from_hex(added_hex, &added_bytes);
    unsigned char lead = g->data[0];
    bool is_map = (lead & 0xf0) == 0x80 || lead == 0xde;
    bool is_wide = lead == 0xdc || lead == 0xde;
    unsigned count = is_wide ? (unsigned)g->data[1] << 8 | g->data[2] : lead & 0x0fU;
    size_t header_bytes = is_wide ? 3 : 1;
    unsigned char *longer = malloc(3 + g->bytes - header_bytes + added_bytes);
    assert_non_null(longer);
    count += added_count;
    longer[0] = is_map ? 0xde : 0xdc;
    longer[1] = (unsigned char)(count >> 8);
    longer[2] = (unsigned char)(count & 0xff);
    memcpy(longer + 3, g->data + header_bytes, g->bytes - header_bytes);
    memcpy(longer + 3 + g->bytes - header_bytes, added, added_bytes);
    *bytes = 3 + g->bytes - header_bytes + added_bytes;
    free(added);
    return longer;
}

static void additions_of_newer_peers_are_read_over(void **state)
{
    const struct fixture *f = *state;
    /* One value of each family: fixext, ext 8, bin, float32, str 8, nested map and arrays. */
    static const char values[] = "9a d401ff c70303aabbcc c4020102 ca3f800000 d90161 81a16192c0c3 "
                                 "dc0001c2 cfffffffffffffffff "
                                 "d3ffffffffffffff00 d8020102030405060708090a0b0c0d0e0f10";
    char pair[sizeof values + 64];
    (void)strcpy(pair, "a7 7a7a7a5f6b6579 ");
    (void)strcat(pair, values);
    for (size_t i = 0; i < f->count; i++) {
        const struct golden *g = &f->goldens[i];
        if (g->sample->message.kind == MESSAGE_ABORT) {
            continue; /* a list of ids: every element is one */
        }
        bool is_map = (g->data[0] & 0xf0) == 0x80 || g->data[0] == 0xde;
        bool is_full = strstr(g->name, ".full") != NULL;
        if (!is_map && g->sample->message.kind == MESSAGE_REQUEST && !is_full) {
            continue; /* the next elements have a meaning; the full ones are extended instead */
        }
        bool is_outputs =
            g->sample->message.kind == MESSAGE_OUTPUTS || g->sample->message.kind == MESSAGE_COUNTS;
        if (is_outputs && !is_full) {
            continue;
        }
        size_t bytes;
        unsigned char *longer = extended(g, is_map ? pair : values, 1, &bytes);
        struct message m = {.kind = g->sample->message.kind};
        struct error error = {.text = ""};
        if (message_decode(f->decoder, longer, bytes, &m, &error) != STATUS_OK) {
            fail_msg("%s: %s", g->name, error.text);
        }
        assert_message_equal(&g->sample->message, &m);
        free(longer);
    }
}

struct wrong {
    enum message_kind kind;
    const char *hex;
    const char *field; /* must be in the error text */
    enum status status;
};

#define REQUEST_HEAD "99 a161 "
#define REQUEST_TAIL " c0 00 c0 c0 c0"

static const struct wrong wrongs[] = {
    {MESSAGE_HELLO, "90", "message", STATUS_PROTOCOL},
    {MESSAGE_HELLO, "82 a5 6c6f63616c c2 a8 686561646c657373 c3", "status", STATUS_PROTOCOL},
    {MESSAGE_HELLO, "81 a6 737461747573 a3 464f4f", "status", STATUS_PROTOCOL},
    {MESSAGE_HELLO, "81 a5 6c6f63616c 00", "local: want a bool, got an integer", STATUS_PROTOCOL},
    {MESSAGE_HELLO, "81 c4 01 61 c0", "message", STATUS_PROTOCOL},
    {MESSAGE_INIT, "81 af 706172616c6c656c5f636f6e666967 80", "addresses", STATUS_PROTOCOL},
    {MESSAGE_INIT, "81 a9 616464726573736573 81 a6 696e70757473 90", "inputs", STATUS_PROTOCOL},
    {MESSAGE_INIT,
     "81 a9 616464726573736573 82 a6 696e70757473 91 a161 a7 6f757470757473 92 a162 a163",
     "outputs", STATUS_PROTOCOL},
    {MESSAGE_INIT, "81 af 706172616c6c656c5f636f6e666967 81 a178 c0", "data_parallel_master_ip",
     STATUS_PROTOCOL},
    {MESSAGE_READY, "80", "max_model_len: the key is missing", STATUS_PROTOCOL},
    {MESSAGE_READY, "81 aa 626c6f636b5f73697a65 cb4030000000000000", "block_size", STATUS_PROTOCOL},
    {MESSAGE_READY, "81 aa 626c6f636b5f73697a65 ff", "block_size", STATUS_PROTOCOL},
    {MESSAGE_READY, "81 a5 6474797065 c0", "dtype", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "98 a161 90 c0 80 c0 00 c0 c0", "message", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "99 05", "request_id", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "99 c40161", "request_id: want a string, got bytes", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "99 a2 6100", "request_id: the string has a NUL byte", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "91 ff", "prompt_token_ids", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "91 cf0000000100000000", "prompt_token_ids", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "91 c3", "prompt_token_ids", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "c0", "prompt_token_ids", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 91c0", "mm_features", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 c0", "sampling_params", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 90", "sampling_params", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 a5 746f705f70 a131", "top_p", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 a5 746f705f70 cb7ff8000000000000", "top_p",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 a5 746f705f70 cb7fe0000000000000", "top_p",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 aa 6d61785f746f6b656e73 c0", "max_tokens",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 ab 6f75747075745f6b696e64 03", "output_kind",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 81 a4 73656564 cf8000000000000000", "seed",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST,
     REQUEST_HEAD
     "90 c0 81 ae 73746f705f746f6b656e5f696473 dc0011 0000000000000000000000000000000000",
     "stop_token_ids", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 91c0", "pooling_params", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 c0 c0", "arrival_time", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 c0 cb7e37e43c8800759c", "arrival_time",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 c0 00 9161", "lora_request", STATUS_UNSUPPORTED},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 c0 00 c0 01", "cache_salt", STATUS_PROTOCOL},
    {MESSAGE_REQUEST, REQUEST_HEAD "90 c0 80 c0 00 c0 c0 ff", "data_parallel_rank",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "9c a161 90 c0 80" REQUEST_TAIL " c0 c0 cd0100", "client_index",
     STATUS_PROTOCOL},
    {MESSAGE_REQUEST, "9e a161 90 c0 80" REQUEST_TAIL " c0 c0 00 00 ce80000000", "priority",
     STATUS_PROTOCOL},
    {MESSAGE_ABORT, "91 c0", "request_id", STATUS_PROTOCOL},
    {MESSAGE_ABORT, "81 a161 c0", "want an array, got a map", STATUS_PROTOCOL},
    {MESSAGE_UTILITY, "93 00 01 a161", "message", STATUS_PROTOCOL},
    {MESSAGE_UTILITY, "94 00 ff a161 90", "call_id", STATUS_PROTOCOL},
    {MESSAGE_UTILITY, "94 00 01 02 90", "method", STATUS_PROTOCOL},
    {MESSAGE_UTILITY, "94 00 01 a161 80", "args", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "91 00", "message", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 c2 90", "engine_index", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 91 a161", "outputs", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 92 01 90", "outputs.request_id", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 92 a161 c0", "outputs.new_token_ids", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 96 a161 90 c0 c0 c0 05", "outputs.finish_reason", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 97 a161 90 c0 c0 c0 00 c2", "outputs.stop_reason", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 98 a161 90 c0 c0 c0 c0 c0 91 92 01 00", "events", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "92 00 91 98 a161 90 c0 c0 c0 c0 c0 91 81 a9 74696d657374616d70 c0",
     "events.timestamp", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "93 00 90 90", "scheduler_stats", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "93 00 90 81 ae 6b765f63616368655f7573616765 c3", "kv_cache_usage",
     STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "93 00 90 81 b0 6e756d5f72756e6e696e675f72657173 ff", "num_running_reqs",
     STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "94 00 90 c0 c0", "timestamp", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "95 00 90 c0 00 92 07 c0", "utility_output", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "95 00 90 c0 00 93 07 c0 c0", "utility_output.result", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "95 00 90 c0 00 93 07 c0 92 90 c0", "utility_output.result",
     STATUS_UNSUPPORTED},
    {MESSAGE_OUTPUTS, "95 00 90 c0 00 93 07 c0 92 c0 05", "utility_output.result", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "96 00 90 c0 00 c0 91 05", "finished_requests", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "97 00 90 c0 00 c0 c0 a161", "wave_complete", STATUS_PROTOCOL},
    {MESSAGE_OUTPUTS, "98 00 90 c0 00 c0 c0 c0 c3", "start_wave", STATUS_PROTOCOL},
    {MESSAGE_STATE, "93 91 92 00 00 00 c2", "counts", STATUS_PROTOCOL},
    {MESSAGE_STATE, "93 91 93 00 ff 00 00 c2", "counts.running", STATUS_PROTOCOL},
    {MESSAGE_STATE, "93 c0 c0 c2", "wave", STATUS_PROTOCOL},
    {MESSAGE_STATE, "93 c0 00 00", "running", STATUS_PROTOCOL},
    {MESSAGE_FIRST_REQUEST, "92 c0 00", "engine", STATUS_PROTOCOL},
    {MESSAGE_FIRST_REQUEST, "92 c403010203 00", "engine", STATUS_PROTOCOL},
    {MESSAGE_FIRST_REQUEST, "92 b0 5343414c455f454c41535449435f4550 04", "engine", STATUS_PROTOCOL},
    {MESSAGE_START_WAVE, "92 c0 c0", "wave", STATUS_PROTOCOL},
    {MESSAGE_START_WAVE, "92 00 a130", "exclude", STATUS_PROTOCOL},
    {MESSAGE_START_WAVE, "c1", "message", STATUS_PROTOCOL},
};

/* The rows stop at what is wrong; nils behind it keep it from being a truncation. */
static unsigned char *padded(const char *hex, size_t *bytes)
{
    char text[1024];
    (void)strcpy(text, hex);
    (void)strcat(text, "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0");
    return bytes_from_hex(text, bytes);
}

static void wrong_types_name_the_field(void **state)
{
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        size_t bytes;
        unsigned char *data = padded(wrongs[i].hex, &bytes);
        struct message m = {.kind = wrongs[i].kind};
        struct error error = {.text = ""};
        enum status status = message_decode(f->decoder, data, bytes, &m, &error);
        if (status != wrongs[i].status || strstr(error.text, wrongs[i].field) == NULL) {
            fail_msg("%s (want %s): %s: %s", wrongs[i].hex, wrongs[i].field, status_text(status),
                     error.text);
        }
        assert_string_not_equal(error.text, "");
        free(data);
    }
}

/* Every width of an integer, float32 and integers for floats, any order of keys, missing keys. */
static void other_spellings_of_numbers_are_accepted(void **state)
{
    const struct fixture *f = *state;
    size_t bytes;
    unsigned char *data = bytes_from_hex(
        "dc000c a161 dd00000003 d00a d1000a d30000000000000100 c0 "
        "df00000007 ab 74656d7065726174757265 00 a5 746f705f70 ca3f000000 a4 73746f70 92a161a162 "
        "a5 746f705f6b d0ff aa 6d61785f746f6b656e73 d200000020 a4 73656564 d0f9 "
        "ae 73746f705f746f6b656e5f696473 c0 c0 ca3fc00000 c0 d90173 cc03 c0 c0 cf00000000000000ff",
        &bytes);
    struct engine_request q;
    struct error error = {.text = ""};
    if (wire_decode_request(f->decoder, data, bytes, &q, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(q.prompt_tokens_count, 3);
    assert_int_equal(q.prompt_token_ids[0], 10);
    assert_int_equal(q.prompt_token_ids[1], 10);
    assert_int_equal(q.prompt_token_ids[2], 256);
    assert_true(q.sampling.temperature <= 0.0F && q.sampling.temperature >= 0.0F);
    assert_true(q.sampling.top_p <= 0.5F && q.sampling.top_p >= 0.5F);
    assert_int_equal(q.sampling.top_k, -1);
    assert_int_equal(q.sampling.max_tokens, 32);
    assert_true(q.sampling.has_seed);
    assert_int_equal(q.sampling.seed, -7);
    assert_int_equal(q.sampling.eos_token_id, TOKEN_NONE);
    assert_int_equal(q.arrival_wall_ns, 1500000000);
    assert_string_equal(q.cache_salt, "s");
    assert_int_equal(q.data_parallel_rank, 3);
    assert_int_equal(q.client_index, 255);
    assert_null(q.external_id);
    free(data);
}

static void missing_sampling_keys_mean_python_defaults(void **state)
{
    const struct fixture *f = *state;
    static const unsigned char data[] = {0x99, 0xa1, 'a',  0x90, 0xc0, 0x80,
                                         0xc0, 0x00, 0xc0, 0xc0, 0xc0};
    struct engine_request q;
    assert_int_equal(wire_decode_request(f->decoder, data, sizeof data, &q, NULL), STATUS_OK);
    assert_int_equal(q.sampling.max_tokens, 16);
    assert_int_equal(q.sampling.n, 1);
    assert_int_equal(q.sampling.output_kind, 0);
    assert_int_equal(q.sampling.eos_token_id, TOKEN_NONE);
    assert_true(q.sampling.temperature >= 1.0F && q.sampling.temperature <= 1.0F);
    assert_true(q.sampling.repetition_penalty >= 1.0F && q.sampling.repetition_penalty <= 1.0F);
    assert_int_equal(q.data_parallel_rank, RANK_NONE);
    assert_int_equal(q.client_index, 0);
}

/* Wherever a request id stands: in ABORT, ADD, an output, finished_requests. */
static void ids_may_have_127_bytes_and_no_more(void **state)
{
    const struct fixture *f = *state;
    char id[REQUEST_ID_BYTES_MAX + 1];
    const char *const ids[] = {id};
    const struct engine_output output = {
        .id = id, .finish = FINISH_NONE, .stop_token_id = TOKEN_NONE};
    const struct message messages[] = {
        {.kind = MESSAGE_ABORT, .abort = {ids, 1}},
        {.kind = MESSAGE_REQUEST, .request = {.id = id, .sampling = {.n = 1}}},
        {.kind = MESSAGE_OUTPUTS,
         .outputs =
             {.outputs = &output, .outputs_count = 1, .wave_complete = -1, .start_wave = -1}},
        {.kind = MESSAGE_OUTPUTS,
         .outputs =
             {.finished_ids = ids, .finished_ids_count = 1, .wave_complete = -1, .start_wave = -1}},
    };
    struct wire_buffer b = {0};
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        for (size_t bytes = REQUEST_ID_BYTES_MAX - 1; bytes <= REQUEST_ID_BYTES_MAX; bytes++) {
            struct message got = {.kind = messages[i].kind};
            memset(id, 'x', bytes);
            id[bytes] = '\0';
            wire_buffer_reset(&b);
            message_encode(&b, &messages[i]);
            enum status status = message_decode(f->decoder, b.data, b.bytes, &got, NULL);
            if (bytes < REQUEST_ID_BYTES_MAX) {
                assert_int_equal(status, STATUS_OK);
                assert_message_equal(&messages[i], &got);
            } else {
                assert_int_equal(status, STATUS_PROTOCOL);
            }
        }
    }
    wire_buffer_free(&b);
}

/* Headers that promise 2^32 - 1 items, where an eager reader would ask for gigabytes. */
static void promises_of_many_items_are_not_believed(void **state)
{
    const struct fixture *f = *state;
    static const struct wrong bombs[] = {
        {MESSAGE_ABORT, "dd ffffffff", "message", STATUS_PROTOCOL},
        {MESSAGE_HELLO, "df ffffffff", "message", STATUS_PROTOCOL},
        {MESSAGE_REQUEST, "99 a161 dd ffffffff 00", "prompt_token_ids", STATUS_PROTOCOL},
        {MESSAGE_REQUEST, "99 db ffffffff 61", "request_id", STATUS_PROTOCOL},
        {MESSAGE_UTILITY, "94 00 01 a161 91 c6 ffffffff 00", "args", STATUS_PROTOCOL},
        {MESSAGE_UTILITY, "94 00 01 a161 91 c9 ffffffff 00", "args", STATUS_PROTOCOL},
        {MESSAGE_UTILITY, "94 00 01 a161 91 df ffffffff 00", "args", STATUS_PROTOCOL},
        {MESSAGE_OUTPUTS, "92 00 dd ffffffff 92", "outputs", STATUS_PROTOCOL},
        {MESSAGE_STATE, "93 dd ffffffff 93", "counts", STATUS_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        size_t bytes;
        unsigned char *data = bytes_from_hex(bombs[i].hex, &bytes);
        struct message m = {.kind = bombs[i].kind};
        assert_int_equal(message_decode(f->decoder, data, bytes, &m, NULL), STATUS_PROTOCOL);
        free(data);
    }
}

static void deep_nesting_is_no_recursion(void **state)
{
    const struct fixture *f = *state;
    enum {
        DEPTH = 1000000
    };
    unsigned char *data = malloc(DEPTH + 6);
    assert_non_null(data);
    memcpy(data, "\x94\x00\x01\xa1x", 5);
    memset(data + 5, 0x91, DEPTH);
    data[DEPTH + 5] = 0xc0;
    struct utility_call call;
    assert_int_equal(wire_decode_utility(f->decoder, data, DEPTH + 6, &call, NULL), STATUS_OK);
    assert_int_equal(wire_decode_utility(f->decoder, data, DEPTH + 5, &call, NULL),
                     STATUS_PROTOCOL);
    free(data);
}

/* Up to 3 bytes of each golden body changed at random: no crash, and no error without a text. */
static void random_damage_never_crashes(void **state)
{
    const struct fixture *f = *state;
    struct random r = random_stream(7, "damage", 0);
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < f->count; i++) {
            const struct golden *g = &f->goldens[i];
            unsigned char *data = malloc(g->bytes);
            assert_non_null(data);
            memcpy(data, g->data, g->bytes);
            for (int64_t k = random_range(&r, 1, 3); k > 0; k--) {
                data[random_range(&r, 0, (int64_t)g->bytes - 1)] =
                    (unsigned char)random_range(&r, 0, 255);
            }
            struct message m = {.kind = g->sample->message.kind};
            struct error error = {.text = ""};
            if (message_decode(f->decoder, data, g->bytes, &m, &error) != STATUS_OK) {
                assert_true(error.status == STATUS_PROTOCOL || error.status == STATUS_UNSUPPORTED);
                assert_string_not_equal(error.text, "");
            }
            free(data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_a_protocol_error),
        cmocka_unit_test(bytes_behind_the_body_are_an_error),
        cmocka_unit_test(additions_of_newer_peers_are_read_over),
        cmocka_unit_test(wrong_types_name_the_field),
        cmocka_unit_test(other_spellings_of_numbers_are_accepted),
        cmocka_unit_test(missing_sampling_keys_mean_python_defaults),
        cmocka_unit_test(ids_may_have_127_bytes_and_no_more),
        cmocka_unit_test(promises_of_many_items_are_not_believed),
        cmocka_unit_test(deep_nesting_is_no_recursion),
        cmocka_unit_test(random_damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
