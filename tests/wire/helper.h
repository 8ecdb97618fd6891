/*
 * helper.h - what the tests of the wire room share: one way to encode, decode and compare any
 * message, the sample values behind the golden bytes, and the golden file's lines.
 */
#ifndef TESTS_WIRE_HELPER_H
#define TESTS_WIRE_HELPER_H

#include "engine/wire/wire.h"

enum message_kind {
    MESSAGE_HELLO,
    MESSAGE_INIT,
    MESSAGE_READY,
    MESSAGE_REQUEST,
    MESSAGE_ABORT,
    MESSAGE_UTILITY,
    MESSAGE_OUTPUTS,
    MESSAGE_COUNTS, /* outputs written by wire_encode_counts() */
    MESSAGE_STATE,
    MESSAGE_FIRST_REQUEST,
    MESSAGE_START_WAVE,
};

struct message {
    enum message_kind kind;
    union {
        struct wire_hello hello;
        struct wire_init init;
        struct wire_ready ready;
        struct engine_request request;
        struct {
            const char *const *ids;
            uint32_t count;
        } abort;
        struct utility_call utility;
        struct engine_outputs outputs;
        struct coordinator_state state;
        struct first_request first;
        struct start_wave start;
    };
};

void message_encode(struct wire_buffer *b, const struct message *m);
/* Decodes as m->kind. */
enum status message_decode(struct wire_decoder *d, const void *data, size_t bytes,
                           struct message *m, struct error *error);
/* Fails the running test at the first difference; times may differ by less than a microsecond. */
void assert_message_equal(const struct message *a, const struct message *b);

/* The objects of make_golden.py; a name's bytes stand in golden.txt. */
struct sample {
    const char *name;
    struct message message;
};
extern const struct sample helper_samples[];
extern const size_t helper_samples_count;

struct golden {
    char name[64];
    unsigned char
        *data; /* exactly `bytes` long, so that the address sanitizer sees each byte too many */
    size_t bytes;
    const struct sample
        *sample; /* the one this line was made from, also for `name.full` and the like */
};
/* Every line of golden.txt; the caller frees. Fails the running test when one has no sample. */
struct golden *goldens_load(size_t *count);
void goldens_free(struct golden *goldens, size_t count);

/* "92 c0 04" to bytes, exactly allocated. */
unsigned char *bytes_from_hex(const char *hex, size_t *bytes);

#endif
