/*
 * chat_template.h - messages of a chat to one prompt text, by a small fixed template:
 *
 *     <|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\n
 *
 * The last line is there when the model is to speak next. A template of a real model takes the same
 * arguments.
 */
#ifndef ENGINE_MODEL_CHAT_TEMPLATE_H
#define ENGINE_MODEL_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

/* Renders roles[i], contents[i] (NUL-terminated) into out[0..cap), as much as fits, without a NUL.
 * Returns the bytes the whole text has: when that is more than `cap`, call again with that much
 * room (out may be NULL with cap 0). */
size_t chat_template_render(const char *const *roles, const char *const *contents,
                            size_t messages_count, bool add_generation_prompt, char *out,
                            size_t cap);

#endif
