/*
 * wire_decode_fuzz.c - every decoder of engine/wire on arbitrary bytes; the first byte selects it.
 * What decodes is written and read again, and written again: the two bodies must be equal.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    DECODERS_COUNT = 10
};

static struct wire_init init;

static bool one_purpose(const struct engine_outputs *o)
{
    int purposes = (o->outputs_count > 0 || o->stats != NULL || o->finished_ids_count > 0) +
                   (o->utility != NULL) + (o->wave_complete >= 0) + (o->start_wave >= 0);
    return purposes == 1;
}

static enum status outputs_again(struct wire_decoder *d, const void *data, size_t size,
                                 struct wire_buffer *b)
{
    struct engine_outputs outputs;
    struct error error;
    TRY(wire_decode_outputs(d, data, size, &outputs, &error));
    if (!one_purpose(&outputs)) {
        return STATUS_INVALID;
    }
    wire_encode_outputs(b, &outputs);
    return STATUS_OK;
}

static enum status frontend_again(unsigned which, struct wire_decoder *d, const void *data,
                                  size_t size, struct wire_buffer *b)
{
    struct engine_request request;
    struct utility_call call;
    const char *const *ids;
    uint32_t count;
    struct error error;
    if (which == 3) {
        const char *id = NULL;
        if (wire_decode_request_id(d, data, size, &id, &error) == STATUS_OK &&
            strlen(id) >= REQUEST_ID_BYTES_MAX) {
            abort();
        }
        TRY(wire_decode_request(d, data, size, &request, &error));
        wire_encode_request(b, &request);
    } else if (which == 4) {
        TRY(wire_decode_abort(d, data, size, &ids, &count, &error));
        wire_encode_abort(b, ids, count);
    } else {
        TRY(wire_decode_utility(d, data, size, &call, &error));
        wire_encode_utility(b, &call);
    }
    return STATUS_OK;
}

static enum status handshake_again(unsigned which, struct wire_decoder *d, const void *data,
                                   size_t size, struct wire_buffer *b)
{
    struct wire_hello hello;
    struct wire_ready ready;
    struct error error;
    if (which == 0) {
        TRY(wire_decode_hello(d, data, size, &hello, &error));
        wire_encode_hello(b, &hello);
    } else if (which == 1) {
        TRY(wire_decode_init(d, data, size, &init, &error));
        wire_encode_init(b, &init);
    } else {
        TRY(wire_decode_ready(d, data, size, &ready, &error));
        wire_encode_ready(b, &ready);
    }
    return STATUS_OK;
}

static enum status coordinator_again(unsigned which, struct wire_decoder *d, const void *data,
                                     size_t size, struct wire_buffer *b)
{
    struct coordinator_state state;
    struct first_request first;
    struct start_wave start;
    struct error error;
    if (which == 7) {
        TRY(wire_decode_coordinator_state(d, data, size, &state, &error));
        wire_encode_coordinator_state(b, &state);
    } else if (which == 8) {
        TRY(wire_decode_first_request(d, data, size, &first, &error));
        wire_encode_first_request(b, &first);
    } else {
        TRY(wire_decode_start_wave(d, data, size, &start, &error));
        wire_encode_start_wave(b, &start);
    }
    return STATUS_OK;
}

/* Decodes and writes what was understood into *b. */
static enum status again(unsigned which, struct wire_decoder *d, const void *data, size_t size,
                         struct wire_buffer *b)
{
    if (which <= 2) {
        return handshake_again(which, d, data, size, b);
    }
    if (which <= 5) {
        return frontend_again(which, d, data, size, b);
    }
    if (which == 6) {
        return outputs_again(d, data, size, b);
    }
    return coordinator_again(which, d, data, size, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_decoder *decoder;
    struct wire_buffer once = {0};
    struct wire_buffer twice = {0};
    if (size == 0 || (decoder == NULL && wire_decoder_create(&decoder, NULL) != STATUS_OK)) {
        return 0;
    }
    unsigned which = data[0] % DECODERS_COUNT;
    if (again(which, decoder, data + 1, size - 1, &once) == STATUS_OK) {
        if (again(which, decoder, once.data, once.bytes, &twice) != STATUS_OK ||
            once.bytes != twice.bytes || memcmp(once.data, twice.data, once.bytes) != 0) {
            abort();
        }
    }
    wire_buffer_free(&once);
    wire_buffer_free(&twice);
    return 0;
}
