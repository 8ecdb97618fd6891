/*
 * writer.c - single MessagePack values appended to a growing buffer (writer.h), by libmsgpack's
 * packer. Driven by the encoders of this room; knows no message.
 */
#include "engine/wire/writer.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_BYTES_MIN = 256
};

void wire_buffer_reset(struct wire_buffer *b)
{
    b->bytes = 0;
}

void wire_buffer_free(struct wire_buffer *b)
{
    free(b->data);
    *b = (struct wire_buffer){0};
}

static size_t grown_cap(const struct wire_buffer *b, size_t bytes)
{
    size_t cap_bytes = b->cap_bytes < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : b->cap_bytes;
    while (cap_bytes - b->bytes < bytes) {
        cap_bytes *= 2;
    }
    return cap_bytes;
}

static int append(void *ctx, const char *data, size_t bytes)
{
    struct wire_buffer *b = ctx;
    if (bytes > b->cap_bytes - b->bytes) {
        size_t cap_bytes = grown_cap(b, bytes);
        char *grown = realloc(b->data, cap_bytes);
        ASSERT(grown != NULL);
        b->data = grown;
        b->cap_bytes = cap_bytes;
    }
    memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
    return 0;
}

static msgpack_packer packer(struct wire_buffer *b)
{
    return (msgpack_packer){.data = b, .callback = append};
}

void wire_put_array(struct wire_buffer *b, uint32_t count)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_array(&p, count);
}

void wire_put_map(struct wire_buffer *b, uint32_t count)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_map(&p, count);
}

void wire_put_map16(struct wire_buffer *b, uint16_t count)
{
    const unsigned char header[3] = {0xde, (unsigned char)(count >> 8),
                                     (unsigned char)(count & 0xff)};
    (void)append(b, (const char *)header, sizeof header);
}

void wire_put_nil(struct wire_buffer *b)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_nil(&p);
}

void wire_put_nils(struct wire_buffer *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        wire_put_nil(b);
    }
}

void wire_put_bool(struct wire_buffer *b, bool value)
{
    msgpack_packer p = packer(b);
    (void)(value ? msgpack_pack_true(&p) : msgpack_pack_false(&p));
}

void wire_put_uint(struct wire_buffer *b, uint64_t value)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_uint64(&p, value);
}

void wire_put_int(struct wire_buffer *b, int64_t value)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_int64(&p, value);
}

void wire_put_uints(struct wire_buffer *b, const uint32_t *values, uint32_t count)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_array(&p, count);
    for (uint32_t i = 0; i < count; i++) {
        (void)msgpack_pack_uint32(&p, values[i]);
    }
}

void wire_put_double(struct wire_buffer *b, double value)
{
    msgpack_packer p = packer(b);
    (void)msgpack_pack_double(&p, value);
}

void wire_put_string(struct wire_buffer *b, const char *text)
{
    if (text == NULL) {
        wire_put_nil(b);
        return;
    }
    msgpack_packer p = packer(b);
    (void)msgpack_pack_str_with_body(&p, text, strlen(text));
}

void wire_put_strings(struct wire_buffer *b, const char *const *texts, uint32_t count)
{
    wire_put_array(b, count);
    for (uint32_t i = 0; i < count; i++) {
        wire_put_string(b, texts[i]);
    }
}

/* The double nearest to units/per_second: the whole seconds apart, so that dividing rounds only the
 * fraction. */
static void put_seconds(struct wire_buffer *b, int64_t units, int64_t per_second)
{
    int64_t whole = units / per_second;
    int64_t rest = units % per_second;
    wire_put_double(b, (double)whole + (double)rest / (double)per_second);
}

void wire_put_time(struct wire_buffer *b, time_ps t)
{
    put_seconds(b, t, PS_PER_S);
}

void wire_put_wall(struct wire_buffer *b, int64_t ns)
{
    put_seconds(b, ns, PS_PER_S / PS_PER_NS);
}

void wire_put_key_nil(struct wire_buffer *b, const char *key)
{
    wire_put_string(b, key);
    wire_put_nil(b);
}

void wire_put_key_bool(struct wire_buffer *b, const char *key, bool value)
{
    wire_put_string(b, key);
    wire_put_bool(b, value);
}

void wire_put_key_uint(struct wire_buffer *b, const char *key, uint64_t value)
{
    wire_put_string(b, key);
    wire_put_uint(b, value);
}

void wire_put_key_double(struct wire_buffer *b, const char *key, double value)
{
    wire_put_string(b, key);
    wire_put_double(b, value);
}

void wire_put_key_string(struct wire_buffer *b, const char *key, const char *text)
{
    wire_put_string(b, key);
    wire_put_string(b, text);
}
