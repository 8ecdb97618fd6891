/*
 * request.h - the bytes of one request: HTTP head and JSON body of POST /v1/completions with the
 * prompt as token ids. Prepared by the client before the send time. Pure: the same item gives the
 * same bytes. No I/O.
 */
#ifndef HARNESS_LOAD_REQUEST_H
#define HARNESS_LOAD_REQUEST_H

#include "engine/http/buffer.h"
#include "harness/load/schedule.h"

enum {
    REQUEST_TOKEN_ID_LO = 1000, /* below are special and byte tokens in common vocabularies */
    REQUEST_TOKEN_ID_HI = 30000,
};

/* Replaces what is in `out`; out->failed when memory ran out. */
void request_write(struct http_buffer *out, const struct load_options *options,
                   const struct trace *trace, const struct schedule_item *item);
/* The token ids of the item's prompt into ids[0 .. item->prompt_tokens). */
void request_prompt(const struct load_options *options, const struct trace *trace,
                    const struct schedule_item *item, uint32_t *ids);
/* GET /health, by which a connection learns its API server. */
void request_write_health(struct http_buffer *out);

#endif
