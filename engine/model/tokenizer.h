/*
 * tokenizer.h - text to token ids and back, behind one table of functions; and the byte-level
 * tokenizer.
 *
 * The byte-level tokenizer needs no vocabulary file: ids 0..255 are the bytes, 256 begins and 257
 * ends a sequence (no text); every greater id (synthetic prompts and devices use any) is one
 * visible ASCII character. A real tokenizer fills the same table. `append` has the signature of the
 * front end's detokenizer, so that `ctx` and `append` can be handed to it as they are.
 *
 *     struct tokenizer t = tokenizer_byte_level(128256);
 *     TRY(t.encode(t.ctx, text, text_bytes, ids, cap, &count));
 *     uint64_t state = 0;                                  // one for each request
 *     n += t.append(t.ctx, &state, token, out + n, cap - n);
 *
 * No I/O, no allocation.
 */
#ifndef ENGINE_MODEL_TOKENIZER_H
#define ENGINE_MODEL_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    TOKENIZER_BYTE_BOS = 256,
    TOKENIZER_BYTE_EOS = 257,
    TOKENIZER_BYTE_FIRST_OTHER = 258,
    TOKENIZER_APPEND_BYTES_MAX = 8, /* the most one byte-level append writes */
};

struct tokenizer {
    const char *name; /* static */
    uint32_t vocab_size;
    uint32_t eos_token_id;
    void *ctx;
    /* Writes the ids of text[0..text_bytes). FULL: they are more than `cap`; *count then says how
     * many there are. */
    enum status (*encode)(void *ctx, const char *text, size_t text_bytes, uint32_t *ids, size_t cap,
                          size_t *count);
    /* Appends the text of `token` to out[0..cap) and returns the bytes written: whole characters
     * only. Bytes of an incomplete character wait in *state; bytes that are no UTF-8 become U+FFFD.
     * A character that does not fit into `cap` is dropped. */
    uint32_t (*append)(void *ctx, uint64_t *state, uint32_t token, char *out, uint32_t cap);
};

struct tokenizer tokenizer_byte_level(uint32_t vocab_size);

#endif
