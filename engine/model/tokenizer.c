/*
 * tokenizer.c - the byte-level tokenizer: ids are bytes, and text comes back one whole UTF-8
 * character at a time. Driven by the API server for each prompt and each token. It keeps nothing
 * itself: an incomplete character waits in the request's state.
 */
#include "engine/model/tokenizer.h"

#include <stdbool.h>
#include <string.h>

/* State: the waiting bytes in bits 0..23, first byte lowest; their number in bits 24..25. 0: none.
 */
enum {
    WAITING_BYTES_MAX = 3,
    COUNT_SHIFT = 24,
    PRINTABLE_FIRST = 33,
    PRINTABLE_COUNT = 94
};

static const char replacement[] = "\xEF\xBF\xBD";

static enum status encode_bytes(void *ctx, const char *text, size_t text_bytes, uint32_t *ids,
                                size_t cap, size_t *count)
{
    (void)ctx;
    *count = text_bytes;
    if (text_bytes > cap) {
        return STATUS_FULL;
    }
    for (size_t i = 0; i < text_bytes; i++) {
        ids[i] = (unsigned char)text[i];
    }
    return STATUS_OK;
}

/* Length of the character that begins with this byte, 0 if none does. */
static uint32_t lead_length(unsigned char byte)
{
    if (byte < 0x80) {
        return 1;
    }
    if (byte < 0xC2 || byte > 0xF4) {
        return 0;
    }
    return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* Whether `byte` may stand at place `at` of a character that begins with `lead`. Excludes overlong
 * forms, surrogates and what is beyond U+10FFFF, which show at the second byte. */
static bool continues(unsigned char lead, uint32_t at, unsigned char byte)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (at == 1) {
        low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    }
    return byte >= low && byte <= high;
}

struct output {
    char *data;
    uint32_t bytes;
    uint32_t cap;
};

/* Whole characters or nothing. */
static void put(struct output *out, const char *text, uint32_t bytes)
{
    if (bytes <= out->cap - out->bytes) {
        memcpy(out->data + out->bytes, text, bytes);
        out->bytes += bytes;
    }
}

static void put_byte(struct output *out, uint64_t *state, unsigned char byte)
{
    uint32_t waiting = (uint32_t)(*state >> COUNT_SHIFT) & WAITING_BYTES_MAX;
    char text[WAITING_BYTES_MAX + 1];
    for (uint32_t i = 0; i < waiting; i++) {
        text[i] = (char)(*state >> (8 * i));
    }
    if (waiting > 0 && !continues((unsigned char)text[0], waiting, byte)) {
        put(out, replacement, 3);
        waiting = 0;
    }
    text[waiting] = (char)byte;
    waiting++;
    *state = 0;
    uint32_t want = lead_length((unsigned char)text[0]);
    if (want == 0) {
        put(out, replacement, 3);
    } else if (waiting == want) {
        put(out, text, waiting);
    } else {
        *state = (uint64_t)waiting << COUNT_SHIFT;
        for (uint32_t i = 0; i < waiting; i++) {
            *state |= (uint64_t)(unsigned char)text[i] << (8 * i);
        }
    }
}

static uint32_t append_token(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap)
{
    (void)ctx;
    struct output output = {out, 0, cap};
    if (token < TOKENIZER_BYTE_BOS) {
        put_byte(&output, state, (unsigned char)token);
        return output.bytes;
    }
    if (*state != 0) {
        put(&output, replacement, 3);
        *state = 0;
    }
    if (token >= TOKENIZER_BYTE_FIRST_OTHER) {
        char printable =
            (char)(PRINTABLE_FIRST + (token - TOKENIZER_BYTE_FIRST_OTHER) % PRINTABLE_COUNT);
        put(&output, &printable, 1);
    }
    return output.bytes;
}

struct tokenizer tokenizer_byte_level(uint32_t vocab_size)
{
    return (struct tokenizer){
        .name = "byte-level",
        .vocab_size = vocab_size,
        .eos_token_id = TOKENIZER_BYTE_EOS,
        .encode = encode_bytes,
        .append = append_token,
    };
}
