/*
 * calibration.c - owns the text of a calibration file: its keys, how they are read and written
 * (calibration.h). Called when a scenario is opened and when a calibration ends. Reads files
 * through the environment only; must not fill in what a file leaves out.
 */
#include "harness/scenario/calibration.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "harness/scenario/nearest.h"
#include "harness/scenario/source.h"

enum {
    TIME_DIGITS_MAX = 15, /* before the point */
    HINT_BYTES = 128,
    INTERVAL_COLUMN = 20,
};

struct term_row {
    const char *key;
    size_t offset;
};

static const struct term_row terms[] = {
#define X(id, field) {#field, offsetof(struct simulation_costs, field)},
    CALIBRATION_TERMS(X)
#undef X
};

struct text_row {
    const char *key;
    size_t offset;
    size_t bytes;
};

#define TEXT(key_, field_)                                                                       \
    {                                                                                            \
        key_, offsetof(struct calibration, field_), sizeof(((struct calibration *)NULL)->field_) \
    }

static const struct text_row texts[] = {
    TEXT("date", date),
    TEXT("revision", revision),
    TEXT("cpu_model", machine.cpu_model),
    TEXT("kernel", machine.kernel),
    TEXT("governor", machine.governor),
    TEXT("compiler", machine.compiler),
    TEXT("device", machine.device),
};

enum {
    TEXTS_COUNT = sizeof texts / sizeof texts[0],
    CORES_KEY = TEXTS_COUNT, /* the one key of [calibration] that is no text */
    KEYS_COUNT
};

/* Numbers of [device]: those with an interval first. */
enum {
    DEVICE_ERROR = CALIBRATION_STEP_TERMS_COUNT,
    DEVICE_CONDITION,
    DEVICE_GPU,
    DEVICE_MODEL,
    DEVICE_KEYS_COUNT
};

static const char *const device_keys[DEVICE_KEYS_COUNT] = {
#define X(field) #field,
    CALIBRATION_STEP_TERMS(X)
#undef X
        "held_out_error",
    "condition",
    "gpu",
    "model",
};

const char *calibration_term_name(enum calibration_term term)
{
    return terms[term].key;
}

time_ps *calibration_cost(struct simulation_costs *costs, enum calibration_term term)
{
    return (time_ps *)(void *)((unsigned char *)costs + terms[term].offset);
}

time_ps calibration_cost_of(const struct simulation_costs *costs, enum calibration_term term)
{
    time_ps value;
    memcpy(&value, (const unsigned char *)costs + terms[term].offset, sizeof value);
    return value;
}

/* ---- writing ---- */

static int write_time(time_ps time, FILE *out)
{
    return fprintf(out, "%" PRId64 ".%03dns", time / PS_PER_NS, (int)(time % PS_PER_NS));
}

/* A quotation has no way to hold its own sign. */
static void write_text(const char *key, const char *text, FILE *out)
{
    (void)fprintf(out, "%s = \"", key);
    for (const char *at = text; *at != '\0'; at++) {
        bool plain = *at != '"' && (unsigned char)*at >= ' ' && *at != 0x7f;
        (void)fputc(plain ? *at : '\'', out);
    }
    (void)fprintf(out, "\"\n");
}

static void write_term(const struct calibration *c, enum calibration_term term, FILE *out)
{
    const struct calibration_interval *interval = &c->intervals[term];
    (void)fprintf(out, "%s = ", terms[term].key);
    int bytes = write_time(calibration_cost_of(&c->costs, term), out);
    (void)fprintf(out, "%*s", bytes < INTERVAL_COLUMN ? INTERVAL_COLUMN - bytes : 1, "");
    if (interval->known) {
        (void)write_time(interval->lo, out);
        (void)fprintf(out, "..");
        (void)write_time(interval->hi, out);
        (void)fprintf(out, "\n");
    } else {
        (void)fprintf(out, "; not measured: the built-in value\n");
    }
}

static void write_device(const struct calibration_device *d, FILE *out)
{
    if (d->gpu[0] == '\0') {
        return;
    }
    (void)fprintf(out, "\n# time of a step in ps: value and 95 %% interval; emulated devices are "
                       "simulated by their "
                       "roofline\n"
                       "[device]\n");
    write_text("gpu", d->gpu, out);
    write_text("model", d->model, out);
    for (int i = 0; i < CALIBRATION_STEP_TERMS_COUNT; i++) {
        (void)fprintf(out, "%s = %.9g %.9g %.9g\n", device_keys[i], d->value[i], d->lo[i],
                      d->hi[i]);
    }
    (void)fprintf(out, "held_out_error = %.9g\ncondition = %.9g\n", d->held_out_error,
                  d->condition);
}

void calibration_write(const struct calibration *c, FILE *out)
{
    (void)fprintf(out,
                  "# What the work of this code costs on one machine, by `harness calibrate`.\n"
                  "# [simulation] costs = THIS FILE simulates with it.\n"
                  "[calibration]\n");
    for (size_t i = 0; i < TEXTS_COUNT; i++) {
        write_text(texts[i].key, (const char *)c + texts[i].offset, out);
    }
    (void)fprintf(out, "cores = %u\n\n# value, 95 %% interval\n[costs]\n", c->machine.cores_count);
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        write_term(c, (enum calibration_term)i, out);
    }
    write_device(&c->device, out);
}

/* ---- reading ---- */

struct reader {
    struct calibration *out;
    struct scenario_problems *problems;
    const struct source_section *device; /* NULL: there is none */
    bool has_key[KEYS_COUNT];
    bool has_device_key[DEVICE_KEYS_COUNT];
    bool has_term[CALIBRATION_TERMS_COUNT];
};

static time_ps unit_of(const char *text, size_t *bytes)
{
    static const struct {
        const char *name;
        time_ps ps;
    } units[] = {{"ns", PS_PER_NS}, {"us", PS_PER_US}, {"ms", PS_PER_MS}, {"s", PS_PER_S}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        *bytes = strlen(units[i].name);
        if (strncmp(text, units[i].name, *bytes) == 0) {
            return units[i].ps;
        }
    }
    return 0;
}

/* "41.2us", exactly: NULL, or where it ends. */
static const char *read_time(const char *text, time_ps *out)
{
    int64_t whole = 0;
    const char *at = text;
    for (; isdigit((unsigned char)*at) && at - text <= TIME_DIGITS_MAX; at++) {
        whole = 10 * whole + (*at - '0');
    }
    if (at == text || at - text > TIME_DIGITS_MAX) {
        return NULL;
    }
    const char *fraction = *at == '.' ? at + 1 : NULL;
    for (at = fraction != NULL ? fraction : at; isdigit((unsigned char)*at); at++) {
    }
    size_t unit_bytes = 0;
    time_ps unit = unit_of(at, &unit_bytes);
    if (unit == 0 || at == fraction || __builtin_mul_overflow(whole, unit, out)) {
        return NULL;
    }
    time_ps place = unit;
    for (const char *digit = fraction; fraction != NULL && digit < at; digit++) {
        place /= 10; /* what lies below a picosecond is cut off */
        *out += place * (*digit - '0');
    }
    return at + unit_bytes;
}

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* "VALUE" or "VALUE LO..HI". */
static bool parse_cost(const char *text, time_ps *value, struct calibration_interval *interval)
{
    const char *at = read_time(text, value);
    *interval = (struct calibration_interval){.known = false};
    if (at == NULL || *(at = skip_blanks(at)) == '\0') {
        return at != NULL;
    }
    at = read_time(at, &interval->lo);
    if (at == NULL || strncmp(at, "..", 2) != 0) {
        return false;
    }
    at = read_time(at + 2, &interval->hi);
    interval->known = true;
    return at != NULL && *at == '\0' && interval->lo <= interval->hi;
}

static void read_term(struct reader *r, const struct source_entry *e)
{
    struct nearest nearest = {.word = e->key};
    char hint[HINT_BYTES];
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        enum calibration_term term = (enum calibration_term)i;
        nearest_offer(&nearest, terms[i].key);
        if (strcmp(terms[i].key, e->key) != 0) {
            continue;
        }
        r->has_term[i] = true;
        if (!parse_cost(e->value, calibration_cost(&r->out->costs, term), &r->out->intervals[i])) {
            problems_add(r->problems, e->value_origin,
                         "%s: want a time and maybe its interval, as 41.2us 40us..42.5us, got "
                         "'%.60s'",
                         e->key, e->value);
        }
        return;
    }
    problems_add(r->problems, e->key_origin, "unknown key '%s' in [costs]%s", e->key,
                 nearest_hint(&nearest, hint, sizeof hint));
}

static void read_cores(struct reader *r, const struct source_entry *e)
{
    uint32_t count = 0;
    const char *at = e->value;
    for (; isdigit((unsigned char)*at) && count < 1000000; at++) {
        count = 10 * count + (uint32_t)(*at - '0');
    }
    if (*at != '\0' || count == 0) {
        problems_add(r->problems, e->value_origin, "cores: want a count of 1 or more, got '%.60s'",
                     e->value);
    }
    r->out->machine.cores_count = count;
}

static void read_key(struct reader *r, const struct source_entry *e)
{
    struct nearest nearest = {.word = e->key};
    char hint[HINT_BYTES];
    nearest_offer(&nearest, "cores");
    if (strcmp(e->key, "cores") == 0) {
        r->has_key[CORES_KEY] = true;
        read_cores(r, e);
        return;
    }
    for (size_t i = 0; i < TEXTS_COUNT; i++) {
        nearest_offer(&nearest, texts[i].key);
        if (strcmp(texts[i].key, e->key) != 0) {
            continue;
        }
        r->has_key[i] = true;
        if (strlen(e->value) >= texts[i].bytes) {
            problems_add(r->problems, e->value_origin, "%s: longer than %zu characters", e->key,
                         texts[i].bytes - 1);
            return;
        }
        memcpy((unsigned char *)r->out + texts[i].offset, e->value, strlen(e->value) + 1);
        return;
    }
    problems_add(r->problems, e->key_origin, "unknown key '%s' in [calibration]%s", e->key,
                 nearest_hint(&nearest, hint, sizeof hint));
}

/* `count` numbers of at least 0, with blanks between them, and nothing else. */
static bool parse_numbers(const char *text, double *out, uint32_t count)
{
    const char *at = text;
    for (uint32_t i = 0; i < count; i++) {
        char *end = NULL;
        at = skip_blanks(at);
        out[i] = isdigit((unsigned char)*at) ? strtod(at, &end) : -1;
        if (end == NULL || !isfinite(out[i])) {
            return false;
        }
        at = end;
    }
    return *at == '\0';
}

static bool parse_device(struct calibration_device *d, uint32_t key, const char *value)
{
    double numbers[3];
    if (key == DEVICE_GPU || key == DEVICE_MODEL) {
        char *to = key == DEVICE_GPU ? d->gpu : d->model;
        size_t cap = key == DEVICE_GPU ? sizeof d->gpu : sizeof d->model;
        if (value[0] == '\0' || strlen(value) >= cap) {
            return false;
        }
        memcpy(to, value, strlen(value) + 1);
        return true;
    }
    if (key == DEVICE_ERROR || key == DEVICE_CONDITION) {
        return parse_numbers(value, key == DEVICE_ERROR ? &d->held_out_error : &d->condition, 1);
    }
    if (!parse_numbers(value, numbers, 3)) {
        return false;
    }
    d->value[key] = numbers[0];
    d->lo[key] = numbers[1];
    d->hi[key] = numbers[2];
    return true;
}

static void read_device(struct reader *r, const struct source_entry *e)
{
    struct nearest nearest = {.word = e->key};
    char hint[HINT_BYTES];
    for (uint32_t i = 0; i < DEVICE_KEYS_COUNT; i++) {
        nearest_offer(&nearest, device_keys[i]);
        if (strcmp(device_keys[i], e->key) != 0) {
            continue;
        }
        r->has_device_key[i] = true;
        if (!parse_device(&r->out->device, i, e->value)) {
            problems_add(r->problems, e->value_origin, "%s: want %s, got '%.60s'", e->key,
                         i < DEVICE_ERROR ? "three numbers: value, least, greatest"
                         : i < DEVICE_GPU ? "a number"
                                          : "a name",
                         e->value);
        }
        return;
    }
    problems_add(r->problems, e->key_origin, "unknown key '%s' in [device]%s", e->key,
                 nearest_hint(&nearest, hint, sizeof hint));
}

static void read_section(struct reader *r, const struct source_section *section)
{
    static const struct {
        const char *kind;
        void (*read)(struct reader *r, const struct source_entry *e);
    } kinds[] = {{"calibration", read_key}, {"costs", read_term}, {"device", read_device}};
    struct nearest nearest = {.word = section->kind};
    char hint[HINT_BYTES];
    if (section->kind[0] == '\0') {
        return; /* its header is a problem already */
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        nearest_offer(&nearest, kinds[i].kind);
        if (section->name[0] != '\0' || strcmp(section->kind, kinds[i].kind) != 0) {
            continue;
        }
        r->device = kinds[i].read == read_device ? section : r->device;
        for (const struct source_entry *e = section->first; e != NULL; e = e->next) {
            kinds[i].read(r, e);
        }
        return;
    }
    problems_add(r->problems, section->origin, "unknown section [%s%s%s] in a calibration%s",
                 section->kind, section->name[0] != '\0' ? " " : "", section->name,
                 nearest_hint(&nearest, hint, sizeof hint));
}

static void report_missing(struct reader *r, const char *path)
{
    struct scenario_origin origin = {.file = path};
    for (uint32_t i = 0; i < KEYS_COUNT; i++) {
        if (!r->has_key[i]) {
            problems_add(r->problems, origin, "[calibration] lacks '%s'",
                         i == CORES_KEY ? "cores" : texts[i].key);
        }
    }
    for (uint32_t i = 0; i < CALIBRATION_TERMS_COUNT; i++) {
        if (!r->has_term[i]) {
            problems_add(r->problems, origin, "[costs] lacks '%s'", terms[i].key);
        }
    }
    for (uint32_t i = 0; r->device != NULL && i < DEVICE_KEYS_COUNT; i++) {
        if (!r->has_device_key[i]) {
            problems_add(r->problems, r->device->origin, "[device] lacks '%s'", device_keys[i]);
        }
    }
}

enum status calibration_read(const char *path, const struct scenario_environment *environment,
                             struct calibration *out, struct scenario_problems *problems)
{
    struct arena arena;
    struct error error;
    uint32_t before = problems->count;
    uint32_t dropped = problems->dropped_count;
    *out = (struct calibration){.date = ""};
    if (strlen(path) >= sizeof out->path ||
        arena_create(ARENA_BYTES(1, struct source) + source_arena_bytes(), &arena, &error) !=
            STATUS_OK) {
        problems_add(problems, (struct scenario_origin){.file = path}, "%s",
                     strlen(path) >= sizeof out->path ? "the path is too long"
                                                      : status_text(STATUS_NOMEM));
        return STATUS_INVALID;
    }
    memcpy(out->path, path, strlen(path) + 1);
    struct source *source = ARENA_NEW(&arena, struct source, 1);
    struct reader r = {.out = out, .problems = problems};
    source_read(source, path, environment, &arena, problems);
    for (uint32_t i = 0; i < source->sections_count; i++) {
        read_section(&r, &source->sections[i]);
    }
    if (problems->count == before && problems->dropped_count == dropped) {
        report_missing(&r, path);
    }
    arena_destroy(&arena);
    return problems->count == before && problems->dropped_count == dropped ? STATUS_OK
                                                                           : STATUS_INVALID;
}

/* ---- another machine ---- */

static uint32_t compare(const char *key, const char *there, const char *here, FILE *out)
{
    if (strcmp(there, here) == 0) {
        return 0;
    }
    (void)fprintf(out, "%s: '%s' there, '%s' here\n", key, there, here);
    return 1;
}

uint32_t calibration_differences(const struct calibration_machine *there,
                                 const struct calibration_machine *here, FILE *out)
{
    char cores_there[16];
    char cores_here[16];
    (void)snprintf(cores_there, sizeof cores_there, "%u", there->cores_count);
    (void)snprintf(cores_here, sizeof cores_here, "%u", here->cores_count);
    return compare("cpu_model", there->cpu_model, here->cpu_model, out) +
           compare("cores", cores_there, cores_here, out) +
           compare("kernel", there->kernel, here->kernel, out) +
           compare("governor", there->governor, here->governor, out) +
           compare("compiler", there->compiler, here->compiler, out) +
           compare("device", there->device, here->device, out);
}
