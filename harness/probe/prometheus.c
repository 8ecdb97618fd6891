/*
 * prometheus.c - the Prometheus text format, cut up in a copy of the text (prometheus.h).
 * Exemplars, time stamps and comments other than TYPE are checked as far as needed to skip them.
 */
#include "harness/probe/prometheus.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUMBER_BYTES = 64,
};

struct parser {
    struct prometheus out;
    size_t samples_cap;
    size_t labels_cap;
    enum status status;        /* of memory and limits */
    const char *family;        /* named by the last TYPE line, "" */
    enum prometheus_type type; /* of it */
    char *at;                  /* in the line, which ends with NUL */
    const char *why;           /* the line is malformed; NULL */
};

/* ---- memory ---- */

static bool reserve(struct parser *p, void **items, size_t *cap, size_t used, size_t item_bytes)
{
    size_t limit = item_bytes == sizeof(struct prometheus_sample) ? PROMETHEUS_SAMPLES_MAX
                                                                  : PROMETHEUS_LABELS_MAX;
    if (used < *cap) {
        return true;
    }
    if (used >= limit) {
        p->status = STATUS_FULL;
        return false;
    }
    size_t wanted = *cap == 0 ? 256 : *cap * 2;
    void *more = realloc(*items, wanted * item_bytes);
    if (more == NULL) {
        p->status = STATUS_NOMEM;
        return false;
    }
    *items = more;
    *cap = wanted;
    return true;
}

static struct prometheus_sample *next_sample(struct parser *p)
{
    void *items = p->out.samples;
    bool ok = reserve(p, &items, &p->samples_cap, p->out.samples_count, sizeof *p->out.samples);
    p->out.samples = items;
    return ok ? &p->out.samples[p->out.samples_count] : NULL;
}

static struct prometheus_label *next_label(struct parser *p)
{
    void *items = p->out.labels;
    bool ok = reserve(p, &items, &p->labels_cap, p->out.labels_count, sizeof *p->out.labels);
    p->out.labels = items;
    return ok ? &p->out.labels[p->out.labels_count] : NULL;
}

/* ---- words of a line ---- */

static void skip_blanks(struct parser *p)
{
    p->at += strspn(p->at, " \t");
}

static bool malformed(struct parser *p, const char *why)
{
    p->why = why;
    return false;
}

/* Letters, digits, '_', and ':' in names of metrics; no digit first. */
static size_t name_bytes(const char *text, bool colons)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_' || (colons && text[n] == ':')) {
        n++;
    }
    return isdigit((unsigned char)text[0]) ? 0 : n;
}

/* A quoted value, its escapes resolved in place. */
static bool take_value(struct parser *p, const char **out)
{
    if (*p->at != '"') {
        return malformed(p, "expected a quoted label value");
    }
    char *from = p->at + 1;
    char *to = from;
    *out = to;
    while (*from != '"') {
        if (*from == '\0') {
            return malformed(p, "a label value has no end");
        }
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        if (from[1] != '\\' && from[1] != '"' && from[1] != 'n') {
            return malformed(p, "an escape other than \\\\, \\\" and \\n");
        }
        *to = from[1];
        if (from[1] == 'n') {
            *to = '\n';
        }
        to++;
        from += 2;
    }
    p->at = from + 1;
    *to = '\0';
    return true;
}

/* From '{' to behind '}'. */
static bool take_labels(struct parser *p, struct prometheus_sample *sample)
{
    p->at++;
    skip_blanks(p);
    while (*p->at != '}') {
        size_t bytes = name_bytes(p->at, false);
        struct prometheus_label *label = next_label(p);
        if (label == NULL) {
            return false;
        }
        if (bytes == 0) {
            return malformed(p, "expected the name of a label");
        }
        char *name_end = p->at + bytes;
        label->name = p->at;
        p->at = name_end;
        skip_blanks(p);
        if (*p->at != '=') {
            return malformed(p, "expected '=' after the name of a label");
        }
        p->at++;
        *name_end = '\0';
        skip_blanks(p);
        if (!take_value(p, &label->value)) {
            return false;
        }
        p->out.labels_count++;
        sample->labels_count++;
        skip_blanks(p);
        if (*p->at != ',' && *p->at != '}') {
            return malformed(p, "expected ',' or '}' after a label");
        }
        p->at += *p->at == ',' ? 1 : 0;
        skip_blanks(p);
    }
    p->at++;
    return true;
}

/* A decimal number, NaN, or an infinity; up to a blank or the end. */
static bool take_number(struct parser *p, double *out)
{
    char text[NUMBER_BYTES];
    size_t bytes = strcspn(p->at, " \t");
    if (bytes == 0 || bytes >= sizeof text) {
        return malformed(p, "expected a number");
    }
    memcpy(text, p->at, bytes);
    text[bytes] = '\0';
    p->at += bytes;
    const char *word = text + (text[0] == '+' || text[0] == '-' ? 1 : 0);
    if (strcasecmp(word, "inf") == 0) {
        *out = text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    if (strcasecmp(text, "nan") == 0) {
        *out = (double)NAN;
        return true;
    }
    char *end = NULL;
    *out = strtod(text, &end);
    bool plain = text[strspn(text, "0123456789+-.eE")] == '\0' && *end == '\0' && end != text;
    return plain ? true : malformed(p, "expected a number");
}

static enum prometheus_type type_named(const char *word)
{
    static const char *const names[] = {"untyped", "counter", "gauge", "histogram", "summary"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(word, names[i]) == 0) {
            return (enum prometheus_type)i;
        }
    }
    return PROMETHEUS_UNTYPED;
}

/* "# TYPE family type"; every other comment is skipped. */
static void take_comment(struct parser *p)
{
    p->at++;
    skip_blanks(p);
    if (strncmp(p->at, "TYPE", 4) != 0 || (p->at[4] != ' ' && p->at[4] != '\t')) {
        return;
    }
    p->at += 4;
    skip_blanks(p);
    size_t bytes = name_bytes(p->at, true);
    if (bytes == 0 || (p->at[bytes] != ' ' && p->at[bytes] != '\t')) {
        p->why = "expected a name and a type after TYPE";
        return;
    }
    p->family = p->at;
    p->at[bytes] = '\0';
    p->at += bytes + 1;
    skip_blanks(p);
    p->at[strcspn(p->at, " \t")] = '\0';
    p->type = type_named(p->at);
}

static enum prometheus_type type_of(const struct parser *p, const char *name)
{
    static const char *const tails[] = {"", "_total", "_bucket", "_sum", "_count"};
    size_t bytes = strlen(p->family);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0] && bytes > 0; i++) {
        if (strncmp(name, p->family, bytes) == 0 && strcmp(name + bytes, tails[i]) == 0) {
            return p->type;
        }
    }
    return PROMETHEUS_UNTYPED;
}

static bool take_sample(struct parser *p)
{
    struct prometheus_sample *sample = next_sample(p);
    if (sample == NULL) {
        return false;
    }
    size_t bytes = name_bytes(p->at, true);
    if (bytes == 0) {
        return malformed(p, "expected the name of a metric");
    }
    *sample =
        (struct prometheus_sample){.name = p->at, .labels_first = (uint32_t)p->out.labels_count};
    char *name_end = p->at + bytes;
    p->at = name_end;
    skip_blanks(p);
    if (*p->at == '{') {
        if (!take_labels(p, sample)) {
            return false;
        }
    } else if (p->at == name_end) {
        return malformed(p, "expected labels or a blank after the name");
    }
    *name_end = '\0';
    skip_blanks(p);
    if (!take_number(p, &sample->value)) {
        return false;
    }
    skip_blanks(p);
    double time = 0;
    if (*p->at != '\0' && *p->at != '#' && !take_number(p, &time)) {
        return false;
    }
    skip_blanks(p);
    if (*p->at != '\0' && *p->at != '#') {
        return malformed(p, "something after the value and the time stamp");
    }
    sample->type = type_of(p, sample->name);
    p->out.samples_count++;
    return true;
}

static void take_line(struct parser *p, uint32_t number)
{
    size_t labels_count = p->out.labels_count;
    p->why = NULL;
    skip_blanks(p);
    if (*p->at == '\0') {
        return;
    }
    if (*p->at == '#') {
        take_comment(p);
    } else if (!take_sample(p)) {
        p->out.labels_count = labels_count;
    }
    if (p->why != NULL) {
        p->out.malformed_count++;
        if (p->out.malformed_line == 0) {
            p->out.malformed_line = number;
            p->out.malformed_why = p->why;
        }
    }
}

/* Lines up to their end; a NUL byte within is no text and is put in sight. */
static void take_text(struct parser *p, size_t bytes)
{
    char *line = p->out.text;
    char *end = line + bytes;
    for (uint32_t number = 1; line < end && p->status == STATUS_OK; number++) {
        char *line_end = memchr(line, '\n', (size_t)(end - line));
        line_end = line_end != NULL ? line_end : end;
        for (char *nul = line; (nul = memchr(nul, '\0', (size_t)(line_end - nul))) != NULL;) {
            *nul = '\x01';
        }
        *line_end = '\0';
        if (line_end > line && line_end[-1] == '\r') {
            line_end[-1] = '\0';
        }
        p->at = line;
        take_line(p, number);
        line = line_end + 1;
    }
}

enum status prometheus_parse(const char *text, size_t bytes, struct prometheus *out,
                             struct error *error)
{
    struct parser p = {.family = "", .out = {.malformed_why = ""}};
    if (bytes > PROMETHEUS_TEXT_BYTES_MAX) {
        return error_set(error, STATUS_FULL, "metrics of %zu bytes: at most %d", bytes,
                         (int)PROMETHEUS_TEXT_BYTES_MAX);
    }
    p.out.text = malloc(bytes + 1);
    if (p.out.text == NULL) {
        return error_set(error, STATUS_NOMEM, "no memory for metrics of %zu bytes", bytes);
    }
    if (bytes > 0) {
        memcpy(p.out.text, text, bytes);
    }
    p.out.text[bytes] = '\0';
    take_text(&p, bytes);
    if (p.status != STATUS_OK) {
        prometheus_free(&p.out);
        return error_set(error, p.status, "metrics: more than %d samples or %d labels, or %s",
                         (int)PROMETHEUS_SAMPLES_MAX, (int)PROMETHEUS_LABELS_MAX,
                         status_text(STATUS_NOMEM));
    }
    *out = p.out;
    return STATUS_OK;
}

void prometheus_free(struct prometheus *p)
{
    free(p->samples);
    free(p->labels);
    free(p->text);
    *p = (struct prometheus){.malformed_why = ""};
}
