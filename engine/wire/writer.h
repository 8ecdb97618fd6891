/*
 * writer.h - MessagePack values appended to a wire_buffer; inside this room only. Integers take
 * their shortest form, floats are float64, as msgspec writes them. Growing is the only thing that
 * can fail, and it aborts: a body is a few kilobytes.
 */
#ifndef ENGINE_WIRE_WRITER_H
#define ENGINE_WIRE_WRITER_H

#include "engine/wire/wire.h"

void wire_put_array(struct wire_buffer *b, uint32_t count);
void wire_put_map(struct wire_buffer *b, uint32_t count);
/* A map header of 3 bytes whatever the count: msgspec's for types that declare 16 fields or more.
 */
void wire_put_map16(struct wire_buffer *b, uint16_t count);
void wire_put_nil(struct wire_buffer *b);
void wire_put_nils(struct wire_buffer *b, uint32_t count);
void wire_put_bool(struct wire_buffer *b, bool value);
void wire_put_uint(struct wire_buffer *b, uint64_t value);
void wire_put_int(struct wire_buffer *b, int64_t value);
void wire_put_uints(struct wire_buffer *b, const uint32_t *values, uint32_t count);
void wire_put_double(struct wire_buffer *b, double value);
/* NULL writes nil. */
void wire_put_string(struct wire_buffer *b, const char *text);
void wire_put_strings(struct wire_buffer *b, const char *const *texts, uint32_t count);
/* Seconds as float64. */
void wire_put_time(struct wire_buffer *b, time_ps t);
void wire_put_wall(struct wire_buffer *b, int64_t ns);

/* Keys of maps. */
void wire_put_key_nil(struct wire_buffer *b, const char *key);
void wire_put_key_bool(struct wire_buffer *b, const char *key, bool value);
void wire_put_key_uint(struct wire_buffer *b, const char *key, uint64_t value);
void wire_put_key_double(struct wire_buffer *b, const char *key, double value);
void wire_put_key_string(struct wire_buffer *b, const char *key, const char *text);

#endif
