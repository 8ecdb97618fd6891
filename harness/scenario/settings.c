/*
 * settings.c - owns precedence: which of the places that set a key counts, and the record of where
 * it was. Called by scenario.c after the text is read. Must not interpret a value: that is
 * value.c's part.
 */
#include "harness/scenario/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "harness/scenario/nearest.h"

enum {
    HINT_BYTES = 128
};

struct resolver {
    struct scenario_settings *settings;
    const struct source *source;
    const struct scenario_environment *environment;
    struct scenario_problems *problems;
};

/* One assignment on its way into a section. */
struct assignment {
    const char *key;
    const char *value;
    struct scenario_origin key_origin;
    struct scenario_origin value_origin;
};

size_t settings_arena_bytes(uint32_t sets_count)
{
    return ((size_t)SETTINGS_SECTIONS_MAX * SETTINGS_PER_SECTION_MAX + sets_count) *
           ARENA_BYTES(SOURCE_VALUE_BYTES, char);
}

struct settings_section *settings_find(struct scenario_settings *settings, const char *kind,
                                       const char *name)
{
    for (uint32_t i = 0; i < settings->sections_count; i++) {
        struct settings_section *s = &settings->sections[i];
        if (strcmp(s->kind->name, kind) == 0 && strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

struct setting *settings_item(struct settings_section *section, const char *key)
{
    for (uint32_t i = 0; i < section->items_count; i++) {
        if (strcmp(section->items[i].key, key) == 0) {
            return &section->items[i];
        }
    }
    return NULL;
}

static bool special(const struct source_section *section, const char *kind)
{
    return strcmp(section->kind, kind) == 0;
}

/* The kind whose keys may stand in the section; NULL for [quick] and for what is not understood. */
static const struct option_kind *keys_kind(const struct source_section *section)
{
    return option_kind_find(special(section, "defaults") ? section->name : section->kind);
}

static bool inherits(const struct source_section *section, const struct source_entry *entry)
{
    const struct option_kind *kind = option_kind_find(section->kind);
    return kind != NULL && kind->named && strcmp(entry->key, "inherit") == 0;
}

static const struct source_section *source_find(const struct source *source, const char *kind,
                                                const char *name)
{
    for (uint32_t i = 0; i < source->sections_count; i++) {
        const struct source_section *s = &source->sections[i];
        if (strcmp(s->kind, kind) == 0 && strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

static void check_header(struct resolver *r, const struct source_section *section)
{
    const struct option_kind *kind = option_kind_find(section->kind);
    char hint[HINT_BYTES];
    char first[HINT_BYTES * 2];
    const struct source_section *same = source_find(r->source, section->kind, section->name);
    if (same != NULL && same != section) {
        origin_text(same->origin, first, sizeof first);
        problems_add(r->problems, section->origin, "section [%s%s%s] stands twice, first at %s",
                     section->kind, section->name[0] != '\0' ? " " : "", section->name, first);
    } else if (special(section, "defaults")) {
        if (option_kind_find(section->name) == NULL) {
            problems_add(r->problems, section->origin, "unknown section '%s' in [defaults %s]%s",
                         section->name, section->name,
                         option_kind_hint(section->name, hint, sizeof hint));
        }
    } else if (special(section, "quick")) {
        if (section->name[0] != '\0') {
            problems_add(r->problems, section->origin, "section [quick] takes no name");
        }
    } else if (kind == NULL) {
        problems_add(r->problems, section->origin, "unknown section '%s'%s", section->kind,
                     option_kind_hint(section->kind, hint, sizeof hint));
    } else if (kind->named != (section->name[0] != '\0')) {
        problems_add(r->problems, section->origin,
                     kind->named ? "section [%s] needs a name: write [%s NAME]"
                                 : "section [%s] takes no name: write [%s]",
                     section->kind, section->kind);
    }
}

static void check_keys(struct resolver *r, const struct source_section *section)
{
    const struct option_kind *kind = keys_kind(section);
    char hint[HINT_BYTES];
    for (const struct source_entry *e = section->first; kind != NULL && e != NULL; e = e->next) {
        if (!inherits(section, e) && option_find(kind->name, e->key) == NULL) {
            problems_add(r->problems, e->key_origin, "unknown key '%s'%s", e->key,
                         option_key_hint(kind->name, e->key, hint, sizeof hint));
        }
    }
}

static void assign(struct resolver *r, struct settings_section *section, struct assignment a)
{
    const struct option *option = option_find(section->kind->name, a.key);
    struct setting *item = settings_item(section, a.key);
    if (option == NULL) {
        return;
    }
    if (item == NULL) {
        if (section->items_count == SETTINGS_PER_SECTION_MAX) {
            problems_add(r->problems, a.key_origin, "too many keys in one section");
            return;
        }
        item = &section->items[section->items_count++];
    }
    *item =
        (struct setting){.option = option, .key = a.key, .text = a.value, .origin = a.value_origin};
}

static void assign_entries(struct resolver *r, struct settings_section *section,
                           const struct source_section *from)
{
    for (const struct source_entry *e = from->first; e != NULL; e = e->next) {
        if (!inherits(from, e)) {
            assign(r, section,
                   (struct assignment){e->key, e->value, e->key_origin, e->value_origin});
        }
    }
}

/* The section that `from` inherits; NULL if none, or if the name is wrong (a problem then). */
static const struct source_section *parent(struct resolver *r, const struct source_section *from)
{
    for (const struct source_entry *e = from->first; e != NULL; e = e->next) {
        if (!inherits(from, e)) {
            continue;
        }
        const struct source_section *found = source_find(r->source, from->kind, e->value);
        struct nearest nearest = {.word = e->value};
        char hint[HINT_BYTES];
        for (uint32_t i = 0; found == NULL && i < r->source->sections_count; i++) {
            if (&r->source->sections[i] != from && special(&r->source->sections[i], from->kind)) {
                nearest_offer(&nearest, r->source->sections[i].name);
            }
        }
        if (found == NULL) {
            problems_add(r->problems, e->value_origin, "inherit: there is no [%s %s]%s", from->kind,
                         e->value, nearest_hint(&nearest, hint, sizeof hint));
        }
        return found;
    }
    return NULL;
}

static bool listed(const struct source_section *const *chain, uint32_t count,
                   const struct source_section *section)
{
    for (uint32_t i = 0; i < count; i++) {
        if (chain[i] == section) {
            return true;
        }
    }
    return false;
}

static void assign_inherited(struct resolver *r, struct settings_section *section,
                             const struct source_section *from)
{
    const struct source_section *chain[SOURCE_SECTIONS_MAX];
    uint32_t count = 0;
    for (const struct source_section *s = from; s != NULL; s = parent(r, s)) {
        if (listed(chain, count, s)) {
            problems_add(r->problems, from->origin, "[%s %s] inherits itself", from->kind,
                         from->name);
            count = 1; /* its own keys are still looked at */
            break;
        }
        chain[count++] = s;
    }
    while (count > 0) {
        assign_entries(r, section, chain[--count]);
    }
}

static struct settings_section *section_new(struct resolver *r, const struct option_kind *kind,
                                            const char *name, struct scenario_origin origin)
{
    const struct scenario_origin initial = {.file = "default"};
    ASSERT(r->settings->sections_count < SETTINGS_SECTIONS_MAX);
    struct settings_section *s = &r->settings->sections[r->settings->sections_count++];
    *s = (struct settings_section){.kind = kind, .name = name, .origin = origin};
    const struct option *o = NULL;
    for (uint32_t i = 0; (o = option_at(i)) != NULL; i++) {
        if (strcmp(o->kind, kind->name) == 0 && !option_is_wildcard(o)) {
            assign(r, s, (struct assignment){o->key, o->initial, initial, initial});
        }
    }
    const struct source_section *defaults = source_find(r->source, "defaults", kind->name);
    if (defaults != NULL) {
        assign_entries(r, s, defaults);
    }
    return s;
}

static void build_sections(struct resolver *r, const struct option_kind *kind)
{
    const struct scenario_origin nowhere = {.file = r->settings->path};
    if (!kind->named) {
        const struct source_section *own = source_find(r->source, kind->name, "");
        struct settings_section *s = section_new(r, kind, "", own != NULL ? own->origin : nowhere);
        if (own != NULL) {
            assign_entries(r, s, own);
        }
        return;
    }
    for (uint32_t i = 0; i < r->source->sections_count; i++) {
        const struct source_section *own = &r->source->sections[i];
        if (special(own, kind->name) && own->name[0] != '\0' &&
            source_find(r->source, own->kind, own->name) == own) {
            assign_inherited(r, section_new(r, kind, own->name, own->origin), own);
        }
    }
}

/* Where "kind.key" or "kind.name.key" leads. */
struct target {
    const struct option_kind *kind;
    const char *name; /* NULL: all sections of the kind */
    const char *key;
};

static bool target_find(struct resolver *r, const char *path, struct scenario_origin origin,
                        struct target *out)
{
    char word[SOURCE_KEY_BYTES];
    char hint[HINT_BYTES];
    const char *dot = strchr(path, '.');
    size_t bytes = dot != NULL ? (size_t)(dot - path) : 0;
    if (bytes == 0 || bytes >= sizeof word || strlen(path) >= 2 * sizeof word) {
        problems_add(r->problems, origin, "'%.60s' is no section.key or section.name.key", path);
        return false;
    }
    memcpy(word, path, bytes);
    word[bytes] = '\0';
    struct target t = {.kind = option_kind_find(word), .key = dot + 1};
    if (t.kind == NULL) {
        problems_add(r->problems, origin, "unknown section '%s'%s", word,
                     option_kind_hint(word, hint, sizeof hint));
        return false;
    }
    dot = t.kind->named ? strchr(t.key, '.') : NULL;
    bytes = dot != NULL ? (size_t)(dot - t.key) : 0;
    if (bytes > 0 && bytes < sizeof word && option_find(t.kind->name, t.key) == NULL) {
        memcpy(word, t.key, bytes);
        word[bytes] = '\0';
        const struct settings_section *s = settings_find(r->settings, t.kind->name, word);
        if (s == NULL) {
            problems_add(r->problems, origin, "there is no section [%s %s]", t.kind->name, word);
            return false;
        }
        t.name = s->name;
        t.key = dot + 1;
    }
    if (option_find(t.kind->name, t.key) == NULL) {
        problems_add(r->problems, origin, "unknown key '%s'%s", t.key,
                     option_key_hint(t.kind->name, t.key, hint, sizeof hint));
        return false;
    }
    *out = t;
    return true;
}

static void override(struct resolver *r, struct assignment a, bool apply)
{
    struct target t;
    if (!target_find(r, a.key, a.key_origin, &t) || !apply) {
        return;
    }
    a.key = t.key;
    for (uint32_t i = 0; i < r->settings->sections_count; i++) {
        struct settings_section *s = &r->settings->sections[i];
        if (s->kind == t.kind && (t.name == NULL || strcmp(s->name, t.name) == 0)) {
            assign(r, s, a);
        }
    }
}

static void override_quick(struct resolver *r, bool apply)
{
    const struct source_section *quick = source_find(r->source, "quick", "");
    if (quick == NULL) {
        if (apply) {
            problems_add(r->problems, (struct scenario_origin){.file = r->settings->path},
                         "there is no [quick] section, which --quick needs");
        }
        return;
    }
    for (const struct source_entry *e = quick->first; e != NULL; e = e->next) {
        override(r, (struct assignment){e->key, e->value, e->key_origin, e->value_origin}, apply);
    }
}

static bool plain_text(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f || *at == '"') {
            return false;
        }
    }
    return true;
}

static void override_set(struct resolver *r, const char *set)
{
    const struct scenario_origin origin = {.file = "command line"};
    const char *equals = strchr(set, '=');
    size_t bytes = strlen(set);
    if (equals == NULL || bytes >= SOURCE_VALUE_BYTES) {
        problems_add(r->problems, origin, "--set: expected section.key=value, got '%.60s'", set);
        return;
    }
    if (!plain_text(set)) {
        problems_add(r->problems, origin,
                     "--set: quotation marks and control characters cannot be used");
        return;
    }
    char *text = ARENA_NEW(&r->settings->arena, char, bytes + 1);
    memcpy(text, set, bytes + 1);
    char *value = text + (equals - set);
    for (char *at = value; at > text && at[-1] == ' '; at--) {
        at[-1] = '\0';
    }
    *value++ = '\0';
    value += strspn(value, " ");
    for (size_t n = strlen(value); n > 0 && value[n - 1] == ' '; n--) {
        value[n - 1] = '\0';
    }
    override(r, (struct assignment){text, value, origin, origin}, true);
}

/* Replaces the ${...} at *at and moves behind it. False, and a problem, if it cannot. */
static bool substitute_one(struct resolver *r, const struct setting *item, const char **at,
                           char *out, size_t cap)
{
    const char *close = strchr(*at, '}');
    const char *name = *at + 2;
    char variable[SOURCE_VALUE_BYTES];
    if (close == NULL) {
        problems_add(r->problems, item->origin, "%s: '${' without '}'", item->key);
        return false;
    }
    (void)snprintf(variable, sizeof variable, "%.*s", (int)(close - name), name);
    char *fallback = strstr(variable, ":-");
    if (fallback != NULL) {
        *fallback = '\0';
        fallback += 2;
    }
    if (variable[0] == '\0' || strpbrk(variable, " ${") != NULL ||
        (fallback != NULL && strchr(fallback, '$') != NULL)) {
        problems_add(r->problems, item->origin, "%s: write ${NAME} or ${NAME:-text}", item->key);
        return false;
    }
    const char *value = r->environment->variable(r->environment->ctx, variable);
    if (value == NULL && fallback == NULL) {
        problems_add(r->problems, item->origin,
                     "%s: the environment variable %s is not set (${%s:-text} gives a default)",
                     item->key, variable, variable);
        return false;
    }
    if (value != NULL && (!plain_text(value) || strpbrk(value, "$%") != NULL)) {
        problems_add(r->problems, item->origin,
                     "%s: the environment variable %s holds a quotation mark, '$', '%%' or a "
                     "control character",
                     item->key, variable);
        return false;
    }
    (void)snprintf(out, cap, "%s", value != NULL ? value : fallback);
    *at = close + 1;
    return true;
}

/* The text with its ${...} replaced; the text itself if it has none; NULL after a problem. */
static const char *substitute(struct resolver *r, const struct setting *item)
{
    char out[SOURCE_VALUE_BYTES];
    size_t bytes = 0;
    if (strstr(item->text, "${") == NULL) {
        return item->text;
    }
    for (const char *at = item->text; *at != '\0';) {
        char piece[SOURCE_VALUE_BYTES] = {*at, '\0'};
        if (at[0] == '$' && at[1] == '{') {
            if (!substitute_one(r, item, &at, piece, sizeof piece)) {
                return NULL;
            }
        } else {
            at++;
        }
        size_t piece_bytes = strlen(piece);
        if (bytes + piece_bytes >= sizeof out) {
            problems_add(r->problems, item->origin, "%s: longer than %d characters", item->key,
                         SOURCE_VALUE_BYTES - 1);
            return NULL;
        }
        memcpy(out + bytes, piece, piece_bytes + 1);
        bytes += piece_bytes;
    }
    return source_copy(&r->settings->arena, out, bytes);
}

static void finish_section(struct resolver *r, struct settings_section *section)
{
    for (uint32_t i = 0; i < section->items_count; i++) {
        struct setting *item = &section->items[i];
        if (item->text != NULL) {
            const char *text = substitute(r, item);
            item->reported = text == NULL;
            item->text = text != NULL ? text : "";
        }
        if (item->option->required && (item->text == NULL || item->text[0] == '\0')) {
            problems_add(r->problems, section->origin, "[%s] needs the key '%s'",
                         section->kind->name, item->key);
            item->reported = true;
        }
        if (item->text != NULL && strstr(item->text, "%{") != NULL && !section->kind->by_cell) {
            problems_add(r->problems, item->origin,
                         "%s: %%{...} stands only in [server], [client], [workload] and [load]",
                         item->key);
            item->reported = true;
        }
    }
}

void settings_resolve(struct scenario_settings *settings, const struct source *source,
                      const struct scenario_environment *environment,
                      const struct scenario_options *options, struct scenario_problems *problems)
{
    struct resolver r = {
        .settings = settings, .source = source, .environment = environment, .problems = problems};
    for (uint32_t i = 0; i < source->sections_count; i++) {
        if (source->sections[i].kind[0] != '\0') {
            check_header(&r, &source->sections[i]);
            check_keys(&r, &source->sections[i]);
        }
    }
    for (uint32_t i = 0; option_kind_at(i) != NULL; i++) {
        build_sections(&r, option_kind_at(i));
    }
    override_quick(&r, options->quick);
    for (uint32_t i = 0; i < options->sets_count; i++) {
        override_set(&r, options->sets[i]);
    }
    for (uint32_t i = 0; i < settings->sections_count; i++) {
        finish_section(&r, &settings->sections[i]);
    }
}
