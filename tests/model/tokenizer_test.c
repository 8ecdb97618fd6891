/*
 * tokenizer_test.c - the byte-level tokenizer: text goes round, only whole characters come out, bad
 * bytes become U+FFFD, and nothing is written beyond the room given; and the chat template.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/random.h"
#include "engine/model/chat_template.h"
#include "engine/model/tokenizer.h"

/* UTF-8 of a code point, by the definition. */
static size_t utf8_of(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(((0xF00U >> length) & 0xF0U) | code);
    return length;
}

static void every_character_goes_round_whole(void **state)
{
    (void)state;
    struct tokenizer t = tokenizer_byte_level(128256);
    for (uint32_t code = 1; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 61) {
        char text[4];
        uint32_t ids[4];
        size_t count;
        uint64_t waiting = 0;
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        size_t bytes = utf8_of(code, text);
        assert_int_equal(t.encode(t.ctx, text, bytes, ids, 4, &count), STATUS_OK);
        assert_int_equal(count, bytes);
        for (size_t i = 0; i < count; i++) {
            char out[TOKENIZER_APPEND_BYTES_MAX];
            uint32_t got = t.append(t.ctx, &waiting, ids[i], out, sizeof out);
            assert_int_equal(got, i + 1 == count ? bytes : 0);
            assert_memory_equal(out, text, got);
        }
        assert_true(waiting == 0);
    }
}

/* Text of `tokens` by single appends, NUL-terminated. */
static void detokenize(const uint32_t *tokens, size_t count, char *out, size_t cap)
{
    struct tokenizer t = tokenizer_byte_level(1000);
    uint64_t waiting = 0;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        at += t.append(t.ctx, &waiting, tokens[i], out + at, (uint32_t)(cap - at - 1));
    }
    out[at] = '\0';
}

static void bad_bytes_become_replacement_characters(void **state)
{
    (void)state;
#define FFFD "\xEF\xBF\xBD"
    static const struct {
        uint32_t tokens[16];
        size_t count;
        const char *text;
    } cases[] = {
        /* table 3-8 of the Unicode standard, section 3.9 */
        {{0x61, 0xF1, 0x80, 0x80, 0xE1, 0x80, 0xC2, 0x62, 0x80, 0x63, 0x80, 0xBF, 0x64},
         13,
         "a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d"},
        {{0xC0, 0xAF, 0x41}, 3, FFFD FFFD "A"},
        {{0xED, 0xA0, 0x80, 0x41}, 4, FFFD FFFD FFFD "A"},
        {{0xF4, 0x90, 0x41}, 3, FFFD FFFD "A"},
        {{0xE2, 0x82, 0xFF}, 3, FFFD FFFD},
        /* an incomplete character before the end of the sequence, and before another kind of token
         */
        {{0xE2, 0x82, TOKENIZER_BYTE_EOS}, 3, FFFD},
        {{0xF0, 0x9F, 258}, 3, FFFD "!"},
        {{0xF0, 0x9F, 0x98, 0x80, TOKENIZER_BYTE_BOS, 259}, 6, "\xF0\x9F\x98\x80\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[128];
        detokenize(cases[i].tokens, cases[i].count, out, sizeof out);
        assert_string_equal(out, cases[i].text);
    }
}

static void other_tokens_are_one_visible_character(void **state)
{
    (void)state;
    struct tokenizer t = tokenizer_byte_level(128256);
    uint32_t seen[256] = {0};
    for (uint32_t token = 258; token < 258 + 940; token++) {
        char out[8];
        uint64_t waiting = 0;
        assert_int_equal(t.append(t.ctx, &waiting, token, out, sizeof out), 1);
        assert_true(out[0] > ' ' && out[0] < 0x7F);
        seen[(unsigned char)out[0]]++;
    }
    for (uint32_t c = 33; c < 127; c++) {
        assert_int_equal(seen[c], 10);
    }
    char out[8];
    uint64_t waiting = 0;
    assert_int_equal(t.append(t.ctx, &waiting, UINT32_MAX, out, sizeof out), 1);
    assert_int_equal(t.eos_token_id, TOKENIZER_BYTE_EOS);
    assert_int_equal(t.vocab_size, 128256);
}

/* Whatever tokens come and however small the room is: no write beyond it, and always whole
 * characters. */
static void small_room_never_splits_a_character(void **state)
{
    (void)state;
    struct tokenizer t = tokenizer_byte_level(1000);
    struct random random = random_stream(3, "tokens", 0);
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t token = (uint32_t)random_range(&random, 0, i % 3 == 0 ? 300 : 255);
        uint32_t cap = (uint32_t)random_range(&random, 0, TOKENIZER_APPEND_BYTES_MAX);
        char *out = malloc(cap + 1);
        assert_non_null(out);
        uint32_t bytes = t.append(t.ctx, &waiting, token, out, cap);
        assert_true(bytes <= cap);
        for (uint32_t at = 0; at < bytes;) {
            unsigned char lead = (unsigned char)out[at];
            assert_true(lead < 0x80 || lead >= 0xC2);
            at += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
            assert_true(at <= bytes);
        }
        free(out);
    }
}

static void encode_says_how_much_room_it_needs(void **state)
{
    (void)state;
    struct tokenizer t = tokenizer_byte_level(1000);
    uint32_t ids[3] = {7, 7, 7};
    size_t count = 0;
    assert_int_equal(t.encode(t.ctx, "\xFFzzz", 4, ids, 3, &count), STATUS_FULL);
    assert_int_equal(count, 4);
    assert_int_equal(ids[0], 7);
    assert_int_equal(t.encode(t.ctx, "\xFFz", 2, ids, 3, &count), STATUS_OK);
    assert_int_equal(ids[0], 0xFF);
    assert_int_equal(count, 2);
}

static void template_renders_and_counts(void **state)
{
    (void)state;
    static const char *const roles[] = {"system", "user"};
    static const char *const contents[] = {"Be brief.", "Hello"};
    static const char want[] = "<|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\n";
    size_t bytes = sizeof want - 1;
    assert_int_equal(chat_template_render(roles, contents, 2, true, NULL, 0), bytes);
    for (size_t cap = 0; cap <= bytes + 1; cap++) {
        char *out = malloc(cap + 1);
        assert_non_null(out);
        out[cap] = '#';
        assert_int_equal(chat_template_render(roles, contents, 2, true, out, cap), bytes);
        assert_memory_equal(out, want, cap < bytes ? cap : bytes);
        assert_int_equal(out[cap], '#');
        free(out);
    }
    assert_int_equal(chat_template_render(roles, contents, 2, false, NULL, 0),
                     bytes - strlen("<|assistant|>\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_goes_round_whole),
        cmocka_unit_test(bad_bytes_become_replacement_characters),
        cmocka_unit_test(other_tokens_are_one_visible_character),
        cmocka_unit_test(small_room_never_splits_a_character),
        cmocka_unit_test(encode_says_how_much_room_it_needs),
        cmocka_unit_test(template_renders_and_counts),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
