/*
 * source.c - owns the text of a scenario: from bytes of files to sections and entries with their
 * positions. Called by scenario.c. Must not know a key, and must not read a file but through the
 * environment's loader.
 */
#include "harness/scenario/source.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    PATH_BYTES_MAX = 512
};

struct reader {
    struct source *source;
    const struct scenario_environment *environment;
    struct arena *arena;
    struct scenario_problems *problems;
    const char *stack[SOURCE_INCLUDE_DEPTH_MAX + 1]; /* files being read, outermost first */
    uint32_t stack_count;
    uint32_t files_count;
};

/* Where reading stands in one file. */
struct cursor {
    const char *file;
    const char *line; /* start of the current line */
    const char *end;  /* of the current line, without its line end */
    const char *next; /* start of the next line */
    const char *stop; /* of the text */
    uint32_t number;
    struct source_section *section; /* NULL before the first */
};

static void read_file(struct reader *r, const char *path, struct scenario_origin origin);

size_t source_arena_bytes(void)
{
    return SOURCE_FILES_MAX *
               (ARENA_BYTES(SCENARIO_FILE_BYTES_MAX, char) + ARENA_BYTES(PATH_BYTES_MAX, char)) +
           SOURCE_SECTIONS_MAX * 2 * ARENA_BYTES(SOURCE_KEY_BYTES, char) +
           SOURCE_ENTRIES_MAX *
               (ARENA_BYTES(SOURCE_KEY_BYTES, char) + ARENA_BYTES(SOURCE_VALUE_BYTES, char) +
                ARENA_BYTES(1, struct source_entry));
}

const char *source_copy(struct arena *arena, const char *text, size_t bytes)
{
    char *out = ARENA_NEW(arena, char, bytes + 1);
    memcpy(out, text, bytes);
    out[bytes] = '\0';
    return out;
}

static struct scenario_origin here(const struct cursor *c, const char *at)
{
    return (struct scenario_origin){
        .file = c->file, .line = c->number, .column = (uint32_t)(at - c->line) + 1};
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && blank(*at)) {
        at++;
    }
    return at;
}

static bool comment_or_end(const char *at, const char *end)
{
    return at == end || *at == '#' || *at == ';';
}

static bool next_line(struct cursor *c)
{
    if (c->next == c->stop) {
        return false;
    }
    c->line = c->next;
    const char *feed = memchr(c->line, '\n', (size_t)(c->stop - c->line));
    c->end = feed != NULL ? feed : c->stop;
    c->next = feed != NULL ? feed + 1 : c->stop;
    if (c->end > c->line && c->end[-1] == '\r') {
        c->end--;
    }
    c->number++;
    return true;
}

static bool name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* A word of name characters; its length is 0 when there is none, and bounded by the caller's check.
 */
static size_t word_bytes(const char *at, const char *end)
{
    const char *start = at;
    while (at < end && name_char(*at)) {
        at++;
    }
    return (size_t)(at - start);
}

static struct source_section *section_add(struct reader *r, const char *kind, const char *name,
                                          struct scenario_origin origin)
{
    if (r->source->sections_count == SOURCE_SECTIONS_MAX) {
        problems_add(r->problems, origin, "more than %d sections", SOURCE_SECTIONS_MAX);
        return NULL;
    }
    struct source_section *s = &r->source->sections[r->source->sections_count++];
    *s = (struct source_section){.kind = kind, .name = name, .origin = origin};
    return s;
}

/* A header that cannot be understood still opens a section (of no kind), so that its keys are not
 * reported again. */
static void read_section(struct reader *r, struct cursor *c, const char *open)
{
    const char *at = skip_blanks(open + 1, c->end);
    const char *kind = at;
    size_t kind_bytes = word_bytes(at, c->end);
    at = skip_blanks(at + kind_bytes, c->end);
    const char *name = at;
    size_t name_bytes = word_bytes(at, c->end);
    at = skip_blanks(at + name_bytes, c->end);
    struct scenario_origin origin = here(c, open);

    c->section = section_add(r, "", "", origin);
    if (at == c->end || *at != ']' || kind_bytes == 0 ||
        !comment_or_end(skip_blanks(at + 1, c->end), c->end)) {
        problems_add(r->problems, origin, "expected '[section]' or '[section name]'");
        return;
    }
    if (kind_bytes >= SOURCE_KEY_BYTES || name_bytes >= SOURCE_KEY_BYTES) {
        problems_add(r->problems, origin, "a section's name is longer than %d characters",
                     SOURCE_KEY_BYTES - 1);
        return;
    }
    const char *dot = memchr(name, '.', name_bytes);
    if (dot != NULL) {
        problems_add(r->problems, here(c, dot), "a section's name may not contain '.'");
        return;
    }
    if (c->section != NULL) {
        c->section->kind = source_copy(r->arena, kind, kind_bytes);
        c->section->name = source_copy(r->arena, name, name_bytes);
        c->section->origin = here(c, kind);
    }
}

/* One physical line of a value. */
struct value_part {
    const char *at;
    const char *end;
    bool at_line_start; /* a comment sign here needs no blank before it */
    bool continues;     /* out: ended by a backslash */
};

struct value_text {
    char text[SOURCE_VALUE_BYTES];
    size_t bytes;
    bool overflow;
};

static void value_put(struct value_text *v, char c)
{
    if (v->bytes + 1 == sizeof v->text) {
        v->overflow = true;
        return;
    }
    v->text[v->bytes++] = c;
}

/* Appends the part to the value. NULL, or where a quotation starts that does not end. */
static const char *value_part_read(struct value_part *part, struct value_text *v)
{
    const char *quote = NULL;
    size_t kept = v->bytes;
    bool after_blank = part->at_line_start;
    bool backslash = false;

    for (const char *at = part->at; at < part->end; at++) {
        if (quote == NULL && after_blank && (*at == '#' || *at == ';')) {
            break;
        }
        after_blank = quote == NULL && blank(*at);
        if (*at == '"') {
            quote = quote == NULL ? at : NULL;
            kept = v->bytes;
            backslash = false;
            continue;
        }
        value_put(v, *at);
        if (!after_blank) {
            kept = v->bytes;
            backslash = quote == NULL && *at == '\\';
        }
    }
    v->bytes = kept;
    part->continues = backslash && quote == NULL;
    if (part->continues) {
        v->bytes--;
        while (v->bytes > 0 && blank(v->text[v->bytes - 1])) {
            v->bytes--;
        }
    }
    return quote;
}

/* The value that starts at `at`, continuation lines included. False (and a problem) when it is
 * malformed. */
static bool read_value(struct reader *r, struct cursor *c, const char *at, struct value_text *v)
{
    struct value_part part = {.at = at, .end = c->end, .at_line_start = true};
    struct scenario_origin start = here(c, at);
    size_t joined = 0; /* length before the blank that joins two lines */
    for (;;) {
        const char *quote = value_part_read(&part, v);
        if (joined > 0 && v->bytes == joined + 1) {
            v->bytes = joined;
        }
        if (quote != NULL) {
            problems_add(r->problems, here(c, quote), "a quotation does not end on its line");
            return false;
        }
        if (!part.continues) {
            break;
        }
        if (!next_line(c)) {
            problems_add(r->problems, start, "nothing follows the '\\' at the end of the line");
            return false;
        }
        joined = v->bytes;
        if (v->bytes > 0) {
            value_put(v, ' ');
        }
        part = (struct value_part){
            .at = skip_blanks(c->line, c->end), .end = c->end, .at_line_start = true};
    }
    if (v->overflow) {
        problems_add(r->problems, start, "a value is longer than %d characters",
                     SOURCE_VALUE_BYTES - 1);
        return false;
    }
    v->text[v->bytes] = '\0';
    return true;
}

static void read_include(struct reader *r, const struct cursor *c, const char *value,
                         struct scenario_origin origin)
{
    const char *slash = strrchr(c->file, '/');
    char path[PATH_BYTES_MAX];
    int folder_bytes = slash != NULL && value[0] != '/' ? (int)(slash - c->file) + 1 : 0;
    int bytes = snprintf(path, sizeof path, "%.*s%s", folder_bytes, c->file, value);
    if (value[0] == '\0' || bytes < 0 || (size_t)bytes >= sizeof path) {
        problems_add(r->problems, origin, "include: expected the path of a file");
        return;
    }
    for (uint32_t i = 0; i < r->stack_count; i++) {
        if (strcmp(r->stack[i], path) == 0) {
            problems_add(r->problems, origin, "'%s' includes itself", path);
            return;
        }
    }
    if (r->stack_count == SOURCE_INCLUDE_DEPTH_MAX + 1) {
        problems_add(r->problems, origin, "includes are nested more than %d deep",
                     SOURCE_INCLUDE_DEPTH_MAX);
        return;
    }
    read_file(r, source_copy(r->arena, path, (size_t)bytes), origin);
}

static void entry_add(struct reader *r, struct source_section *section, struct source_entry found)
{
    for (const struct source_entry *e = section->first; e != NULL; e = e->next) {
        if (strcmp(e->key, found.key) == 0) {
            char first[PATH_BYTES_MAX];
            origin_text(e->key_origin, first, sizeof first);
            problems_add(r->problems, found.key_origin, "duplicate key '%s', first at %s",
                         found.key, first);
            return;
        }
    }
    struct source_entry *entry = ARENA_NEW(r->arena, struct source_entry, 1);
    *entry = found;
    if (section->last != NULL) {
        section->last->next = entry;
    } else {
        section->first = entry;
    }
    section->last = entry;
}

static void read_assignment(struct reader *r, struct cursor *c, const char *key)
{
    size_t key_bytes = word_bytes(key, c->end);
    const char *at = skip_blanks(key + key_bytes, c->end);
    struct scenario_origin key_origin = here(c, key);
    if (key_bytes == 0 || at == c->end || *at != '=') {
        problems_add(r->problems, here(c, at), "expected 'key = value', '[section]' or a comment");
        return;
    }
    at = skip_blanks(at + 1, c->end);
    struct scenario_origin value_origin = here(c, at);
    struct value_text value = {.bytes = 0};
    if (!read_value(r, c, at, &value)) {
        return;
    }
    if (key_bytes >= SOURCE_KEY_BYTES) {
        problems_add(r->problems, key_origin, "a key is longer than %d characters",
                     SOURCE_KEY_BYTES - 1);
        return;
    }
    if (key_bytes == strlen("include") && memcmp(key, "include", key_bytes) == 0) {
        read_include(r, c, value.text, value_origin);
        return;
    }
    if (c->section == NULL) {
        problems_add(r->problems, key_origin, "a key stands before the first [section]");
        return;
    }
    if (r->source->entries_count == SOURCE_ENTRIES_MAX) {
        problems_add(r->problems, key_origin, "more than %d keys", SOURCE_ENTRIES_MAX);
        return;
    }
    r->source->entries_count++;
    entry_add(r, c->section,
              (struct source_entry){.key = source_copy(r->arena, key, key_bytes),
                                    .value = source_copy(r->arena, value.text, value.bytes),
                                    .key_origin = key_origin,
                                    .value_origin = value_origin});
}

/* False, and a problem, if the text holds a character that no scenario may contain. */
static bool text_clean(struct reader *r, struct cursor c)
{
    while (next_line(&c)) {
        for (const char *at = c.line; at < c.end; at++) {
            unsigned char byte = (unsigned char)*at;
            if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
                problems_add(r->problems, here(&c, at), "control character 0x%02x", byte);
                return false;
            }
        }
    }
    return true;
}

static void read_text(struct reader *r, struct cursor c)
{
    if (!text_clean(r, c)) {
        return;
    }
    while (next_line(&c)) {
        const char *at = skip_blanks(c.line, c.end);
        if (comment_or_end(at, c.end)) {
            continue;
        }
        if (*at == '[') {
            read_section(r, &c, at);
        } else {
            read_assignment(r, &c, at);
        }
    }
}

static void read_file(struct reader *r, const char *path, struct scenario_origin origin)
{
    struct error error = {.status = STATUS_OK};
    if (r->files_count == SOURCE_FILES_MAX) {
        problems_add(r->problems, origin, "more than %d files", SOURCE_FILES_MAX);
        return;
    }
    r->files_count++;
    char *text = ARENA_NEW(r->arena, char, SCENARIO_FILE_BYTES_MAX);
    size_t bytes = 0;
    if (r->environment->load(r->environment->ctx, path, text, SCENARIO_FILE_BYTES_MAX, &bytes,
                             &error) != STATUS_OK) {
        problems_add(r->problems, origin, "cannot read '%s': %s", path, error.text);
        return;
    }
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    r->stack[r->stack_count++] = path;
    read_text(r, (struct cursor){.file = path, .next = text, .stop = text + bytes});
    r->stack_count--;
}

void source_read(struct source *source, const char *path,
                 const struct scenario_environment *environment, struct arena *arena,
                 struct scenario_problems *problems)
{
    struct reader r = {
        .source = source, .environment = environment, .arena = arena, .problems = problems};
    size_t bytes = strlen(path);
    struct scenario_origin origin = {.file = path};
    if (bytes >= PATH_BYTES_MAX) {
        problems_add(problems, origin, "the path is longer than %d characters", PATH_BYTES_MAX - 1);
        return;
    }
    read_file(&r, source_copy(arena, path, bytes), origin);
}
