/*
 * collective_frame.c - owns the bytes of frames between ranks. Driven by the connections of a
 * collective and by the fuzz target. Must not believe a length or a number before it has checked
 * it: the bytes may come from anybody. What it accepts has one encoding only.
 */
#include "engine/collective/collective_frame.h"

#include <string.h>

enum {
    FRAME_MAGIC = 0x434f4c4c,
    HELLO_BYTES = 12 + COLLECTIVE_NAME_MAX,
    CALL_BYTES = 20, /* and the values */
    WAITING_BYTES = 12,
    BREAK_BYTES = 4, /* and the text */
};

/* Lengths of a body. */
static const struct {
    uint32_t min;
    uint32_t max;
} bodies[FRAME_KINDS_COUNT] = {
    [FRAME_HELLO] = {HELLO_BYTES, HELLO_BYTES},
    [FRAME_CALL] = {CALL_BYTES + 4, CALL_BYTES + 4 * COLLECTIVE_VALUES_MAX},
    [FRAME_RESULT] = {CALL_BYTES + 4, CALL_BYTES + 4 * COLLECTIVE_VALUES_MAX},
    [FRAME_WAITING] = {WAITING_BYTES, WAITING_BYTES},
    [FRAME_BREAK] = {BREAK_BYTES, BREAK_BYTES + FRAME_TEXT_MAX},
};

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
    return at + 4;
}

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    return put_u32(put_u32(at, (uint32_t)value), (uint32_t)(value >> 32));
}

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_u64(const uint8_t *at)
{
    return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static uint8_t *encode_hello(const struct collective_frame *f, uint8_t *at)
{
    at = put_u32(at, f->as.hello.version);
    at = put_u32(at, f->as.hello.rank);
    at = put_u32(at, f->as.hello.ranks_count);
    size_t length = strnlen(f->as.hello.name, COLLECTIVE_NAME_MAX - 1);
    memset(at, 0, COLLECTIVE_NAME_MAX);
    memcpy(at, f->as.hello.name, length);
    return at + COLLECTIVE_NAME_MAX;
}

static uint8_t *encode_call(const struct collective_frame *f, uint8_t *at)
{
    const struct collective_contribution *call = &f->as.call;
    ASSERT(call->count > 0 && call->count <= COLLECTIVE_VALUES_MAX);
    at = put_u32(at, f->number);
    at = put_u32(at, call->op);
    at = put_u64(at, call->tag);
    at = put_u32(at, call->count);
    for (uint32_t i = 0; i < call->count; i++) {
        at = put_u32(at, (uint32_t)call->values[i]);
    }
    return at;
}

uint32_t collective_frame_encode(const struct collective_frame *frame, uint8_t *out)
{
    uint8_t *at = out + FRAME_HEAD_BYTES;
    size_t length;
    switch (frame->kind) {
    case FRAME_HELLO:
        at = encode_hello(frame, at);
        break;
    case FRAME_CALL:
    case FRAME_RESULT:
        at = encode_call(frame, at);
        break;
    case FRAME_WAITING:
        at = put_u64(put_u32(at, frame->number), frame->as.came);
        break;
    case FRAME_BREAK:
        at = put_u32(at, (uint32_t)frame->as.end.status);
        length = strnlen(frame->as.end.text, FRAME_TEXT_MAX);
        memcpy(at, frame->as.end.text, length);
        at += length;
        break;
    case FRAME_JOINED:
    case FRAME_READY:
    case FRAME_LEAVE:
    case FRAME_KINDS_COUNT:
        break;
    }
    (void)put_u32(out, FRAME_MAGIC);
    (void)put_u32(out + 4, (uint32_t)frame->kind);
    (void)put_u32(out + 8, (uint32_t)(at - out) - FRAME_HEAD_BYTES);
    return (uint32_t)(at - out);
}

static enum status decode_hello(const uint8_t *body, struct collective_frame *out,
                                struct error *error)
{
    out->as.hello.version = get_u32(body);
    out->as.hello.rank = get_u32(body + 4);
    out->as.hello.ranks_count = get_u32(body + 8);
    memcpy(out->as.hello.name, body + 12, COLLECTIVE_NAME_MAX);
    for (size_t i = strnlen(out->as.hello.name, COLLECTIVE_NAME_MAX); i < COLLECTIVE_NAME_MAX;
         i++) {
        if (out->as.hello.name[i] != '\0') {
            return error_set(error, STATUS_PROTOCOL, "bytes behind the name in a hello");
        }
    }
    if (out->as.hello.name[COLLECTIVE_NAME_MAX - 1] != '\0') {
        return error_set(error, STATUS_PROTOCOL, "a hello with an endless name");
    }
    return STATUS_OK;
}

static enum status decode_call(const uint8_t *body, uint32_t bytes, struct collective_frame *out,
                               struct error *error)
{
    struct collective_contribution *call = &out->as.call;
    out->number = get_u32(body);
    call->op = get_u32(body + 4);
    call->tag = get_u64(body + 8);
    call->count = get_u32(body + 16);
    if (call->count != (bytes - CALL_BYTES) / 4 || bytes % 4 != 0) {
        return error_set(error, STATUS_PROTOCOL, "a call of %u values in %u bytes", call->count,
                         bytes);
    }
    if (call->op > (uint32_t)COLLECTIVE_MAX) {
        return error_set(error, STATUS_PROTOCOL, "a call with operation %u", call->op);
    }
    for (uint32_t i = 0; i < call->count; i++) {
        call->values[i] = (int32_t)get_u32(body + CALL_BYTES + (size_t)4 * i);
    }
    return STATUS_OK;
}

static enum status decode_break(const uint8_t *body, uint32_t bytes, struct collective_frame *out,
                                struct error *error)
{
    uint32_t status = get_u32(body);
    uint32_t length = bytes - BREAK_BYTES;
    if (status == STATUS_OK || status >= STATUS_COUNT) {
        return error_set(error, STATUS_PROTOCOL, "a break with status %u", status);
    }
    out->as.end.status = (enum status)status;
    for (uint32_t i = 0; i < length; i++) {
        char c = (char)body[BREAK_BYTES + i];
        if (c < ' ' || c > '~') { /* it goes into messages for people */
            return error_set(error, STATUS_PROTOCOL, "a break with an unprintable text");
        }
        out->as.end.text[i] = c;
    }
    out->as.end.text[length] = '\0';
    return STATUS_OK;
}

static enum status decode_body(const uint8_t *body, uint32_t bytes, struct collective_frame *out,
                               struct error *error)
{
    switch (out->kind) {
    case FRAME_HELLO:
        return decode_hello(body, out, error);
    case FRAME_CALL:
    case FRAME_RESULT:
        return decode_call(body, bytes, out, error);
    case FRAME_WAITING:
        out->number = get_u32(body);
        out->as.came = get_u64(body + 4);
        return STATUS_OK;
    case FRAME_BREAK:
        return decode_break(body, bytes, out, error);
    case FRAME_JOINED:
    case FRAME_READY:
    case FRAME_LEAVE:
    case FRAME_KINDS_COUNT:
        break;
    }
    return STATUS_OK;
}

enum status collective_frame_decode(const uint8_t *data, size_t bytes, struct collective_frame *out,
                                    uint32_t *used, struct error *error)
{
    *used = 0;
    if (bytes >= 4 && get_u32(data) != FRAME_MAGIC) {
        return error_set(error, STATUS_PROTOCOL, "not a frame");
    }
    if (bytes < FRAME_HEAD_BYTES) {
        return STATUS_OK;
    }
    uint32_t kind = get_u32(data + 4);
    uint32_t length = get_u32(data + 8);
    if (kind >= FRAME_KINDS_COUNT || length < bodies[kind].min || length > bodies[kind].max) {
        return error_set(error, STATUS_PROTOCOL, "a frame of kind %u with %u bytes", kind, length);
    }
    if (bytes - FRAME_HEAD_BYTES < length) {
        return STATUS_OK;
    }
    out->kind = (enum collective_frame_kind)kind;
    out->number = 0;
    TRY(decode_body(data + FRAME_HEAD_BYTES, length, out, error));
    *used = FRAME_HEAD_BYTES + length;
    return STATUS_OK;
}
