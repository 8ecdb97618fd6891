/*
 * chat_template.c - the small fixed chat template. Driven by the API server for each chat request;
 * writes into the caller's memory and counts what did not fit.
 */
#include "engine/model/chat_template.h"

#include <string.h>

struct output {
    char *data;
    size_t cap;
    size_t bytes; /* of the whole text, beyond cap too */
};

static void put(struct output *out, const char *text)
{
    size_t length = strlen(text);
    if (out->bytes < out->cap) {
        size_t room = out->cap - out->bytes;
        memcpy(out->data + out->bytes, text, length < room ? length : room);
    }
    out->bytes += length;
}

size_t chat_template_render(const char *const *roles, const char *const *contents,
                            size_t messages_count, bool add_generation_prompt, char *out,
                            size_t cap)
{
    struct output output = {out, cap, 0};
    for (size_t i = 0; i < messages_count; i++) {
        put(&output, "<|");
        put(&output, roles[i]);
        put(&output, "|>\n");
        put(&output, contents[i]);
        put(&output, "\n");
    }
    if (add_generation_prompt) {
        put(&output, "<|assistant|>\n");
    }
    return output.bytes;
}
