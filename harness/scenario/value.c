/*
 * value.c - owns the meaning of a value's text: numbers with units, shares, distributions, lists,
 * words. Called with a row of the option table for each value. Pure functions: nothing is kept
 * between calls.
 */
#include "harness/scenario/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/shapes.h"
#include "harness/scenario/arithmetic.h"
#include "harness/scenario/nearest.h"

enum {
    WORD_BYTES_MAX = 64,
    FRACTION_DIGITS_MAX = 9,
    WHOLE_DIGITS_MAX = 15
};

static const int64_t hour_ns = (int64_t)3600 * 1000000000;

/* A decimal number: digits [ '.' digits ]. */
struct decimal {
    int64_t whole;
    int64_t fraction; /* over 10^fraction_digits */
    uint32_t fraction_digits;
};

/* Returns what follows the number, NULL if there is none or it has too many digits. */
static const char *decimal_read(const char *at, struct decimal *out)
{
    struct decimal d = {.whole = 0};
    uint32_t digits = 0;
    for (; isdigit((unsigned char)*at); at++) {
        d.whole = d.whole * 10 + (*at - '0');
        if (++digits > WHOLE_DIGITS_MAX) {
            return NULL;
        }
    }
    if (digits == 0) {
        return NULL;
    }
    if (*at == '.') {
        for (at++; isdigit((unsigned char)*at); at++) {
            if (++d.fraction_digits > FRACTION_DIGITS_MAX) {
                return NULL;
            }
            d.fraction = d.fraction * 10 + (*at - '0');
        }
        if (d.fraction_digits == 0) {
            return NULL;
        }
    }
    *out = d;
    return at;
}

/* One rounding: both integers are below 2^53 and the divisor is exact. */
static double decimal_double(const struct decimal *d, int64_t divisor)
{
    int64_t scale = 1;
    for (uint32_t i = 0; i < d->fraction_digits; i++) {
        scale *= 10;
    }
    if (d->fraction == 0) {
        return (double)d->whole / (double)divisor;
    }
    return ((double)d->whole + (double)d->fraction / (double)scale) / (double)divisor;
}

enum status value_time(const char *text, int64_t *out_ns, struct error *error)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"ns", 1},         {"us", 1000},         {"ms", 1000000},
                 {"s", 1000000000}, {"min", 60000000000}, {"h", 3600000000000}};
    struct decimal d;
    const char *unit = decimal_read(text, &d);
    if (unit != NULL && *unit == '\0') {
        return error_set(error, STATUS_INVALID, "a time needs a unit: write 60s, 250ms or 50us");
    }
    for (size_t i = 0; unit != NULL && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].unit) != 0) {
            continue;
        }
        int64_t ns = 0;
        int64_t place = units[i].ns;
        if (__builtin_mul_overflow(d.whole, units[i].ns, &ns) || ns > 8784 * hour_ns) {
            return error_set(error, STATUS_INVALID, "'%.40s' is longer than a year", text);
        }
        int64_t digit_value = 1;
        for (uint32_t k = 0; k < d.fraction_digits; k++) {
            digit_value *= 10;
        }
        for (uint32_t k = 0; k < d.fraction_digits; k++) {
            digit_value /= 10;
            place /= 10;
            ns += d.fraction / digit_value % 10 * place;
        }
        *out_ns = ns;
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "'%.40s' is no time: write 60s, 250ms or 50us", text);
}

static enum status machine_lookup(const void *ctx, const char *name, int64_t *out,
                                  struct error *error)
{
    const struct value_machine *machine = ctx;
    if (strcmp(name, "$ncpus") == 0) {
        *out = machine->cpus_count;
        return STATUS_OK;
    }
    if (strcmp(name, "$ngpus") == 0) {
        *out = machine->gpus_count;
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "'%s' is no number (known names: $ncpus, $ngpus)",
                     name);
}

static enum status integer(const char *text, const struct value_machine *machine, int64_t *out,
                           struct error *error)
{
    struct arithmetic_scope scope = {.ctx = machine, .lookup = machine_lookup};
    return arithmetic_integer(text, &scope, out, error);
}

static enum status limits(const struct option *option, int64_t value, struct error *error)
{
    bool limited = option->min != option->max;
    if (value < 0 || (limited && (value < option->min || value > option->max))) {
        if (!limited) {
            return error_set(error, STATUS_INVALID, "want 0 or more, got %" PRId64, value);
        }
        return error_set(error, STATUS_INVALID, "want %" PRId64 " to %" PRId64 ", got %" PRId64,
                         option->min, option->max, value);
    }
    return STATUS_OK;
}

static void nice_time(int64_t ns, char *out, size_t cap)
{
    if (ns % 1000000000 == 0) {
        (void)snprintf(out, cap, "%" PRId64 "s", ns / 1000000000);
    } else if (ns % 1000000 == 0) {
        (void)snprintf(out, cap, "%" PRId64 "ms", ns / 1000000);
    } else {
        (void)snprintf(out, cap, "%" PRId64 "us", ns / 1000);
    }
}

static enum status parse_time(const struct option *option, const char *text, int64_t *out,
                              struct error *error)
{
    if (option->choices != NULL && strcmp(text, option->choices) == 0) {
        *out = -1;
        return STATUS_OK;
    }
    int64_t ns = 0;
    TRY(value_time(text, &ns, error));
    if (option->min != option->max && (ns < option->min || ns > option->max)) {
        char lo[32];
        char hi[32];
        nice_time(option->min, lo, sizeof lo);
        nice_time(option->max, hi, sizeof hi);
        return error_set(error, STATUS_INVALID, "want %s to %s, got %.40s", lo, hi, text);
    }
    *out = ns;
    return STATUS_OK;
}

/* A decimal followed by `unit`, within the option's limits. */
static enum status parse_number(const struct option *option, const char *text, const char *unit,
                                double *out, struct error *error)
{
    struct decimal d;
    const char *rest = decimal_read(text, &d);
    while (rest != NULL && *unit != '\0' && *rest == ' ') {
        rest++;
    }
    if (rest == NULL || strcmp(rest, unit) != 0) {
        bool percent = strcmp(unit, "%") == 0;
        return error_set(error, STATUS_INVALID,
                         percent           ? "'%.40s' is no percentage: write 5%% or 0.5%%"
                         : unit[0] != '\0' ? "'%.40s' is no rate: write 50/s or 0.5/s"
                                           : "'%.40s' is no number: write 4 or 0.5",
                         text);
    }
    double value = decimal_double(&d, 1);
    if (option->min != option->max &&
        (value < (double)option->min || value > (double)option->max)) {
        return error_set(error, STATUS_INVALID, "want %" PRId64 "%s to %" PRId64 "%s, got %.40s",
                         option->min, unit, option->max, unit, text);
    }
    *out = strcmp(unit, "%") == 0 ? decimal_double(&d, 100) : value;
    return STATUS_OK;
}

static enum status parse_rate(const struct option *option, const char *text,
                              const struct value_machine *machine, double *out, struct error *error)
{
    size_t bytes = strlen(text);
    char sum[WORD_BYTES_MAX * 2];
    int64_t whole = 0;
    bool arithmetic = strpbrk(text, "*+-($") != NULL;
    if (!arithmetic || bytes < 3 || bytes >= sizeof sum || strcmp(text + bytes - 2, "/s") != 0) {
        return parse_number(option, text, "/s", out, error);
    }
    memcpy(sum, text, bytes - 2);
    sum[bytes - 2] = '\0';
    TRY(integer(sum, machine, &whole, error));
    TRY(limits(option, whole, error));
    *out = (double)whole;
    return STATUS_OK;
}

/* Index of `text` in "a|b|c", or the count of choices. */
static uint32_t choice_index(const char *choices, const char *text, uint32_t *count,
                             struct nearest *nearest, char (*names)[WORD_BYTES_MAX])
{
    uint32_t found = UINT32_MAX;
    *count = 0;
    for (const char *at = choices; at != NULL && *count < 32;) {
        const char *bar = strchr(at, '|');
        int bytes = bar != NULL ? (int)(bar - at) : (int)strlen(at);
        (void)snprintf(names[*count], WORD_BYTES_MAX, "%.*s", bytes, at);
        if (strcmp(names[*count], text) == 0) {
            found = *count;
        }
        nearest_offer(nearest, names[*count]);
        (*count)++;
        at = bar != NULL ? bar + 1 : NULL;
    }
    return found;
}

static enum status parse_choice(const char *choices, const char *text, uint32_t *out,
                                struct error *error)
{
    char names[32][WORD_BYTES_MAX];
    char all[256] = "";
    char hint[WORD_BYTES_MAX * 2];
    uint32_t count = 0;
    struct nearest nearest = {.word = text};
    uint32_t index = choice_index(choices, text, &count, &nearest, names);
    if (index != UINT32_MAX) {
        *out = index;
        return STATUS_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t used = strlen(all);
        (void)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    return error_set(error, STATUS_INVALID, "unknown value '%.40s'%s (one of %s)", text,
                     nearest_hint(&nearest, hint, sizeof hint), all);
}

static enum status parse_bool(const char *text, bool *out, struct error *error)
{
    if (strcmp(text, "yes") == 0 || strcmp(text, "no") == 0) {
        *out = text[0] == 'y';
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "want yes or no, got '%.40s'", text);
}

static enum status parse_set(const char *choices, const char *text, uint32_t *out,
                             struct error *error)
{
    uint32_t bits = 0;
    for (const char *at = text; at != NULL;) {
        char word[WORD_BYTES_MAX];
        uint32_t index = 0;
        at += strspn(at, " ");
        size_t bytes = strcspn(at, ",");
        const char *next = at[bytes] == ',' ? at + bytes + 1 : NULL;
        while (bytes > 0 && at[bytes - 1] == ' ') {
            bytes--;
        }
        (void)snprintf(word, sizeof word, "%.*s", (int)(bytes < 60 ? bytes : 60), at);
        TRY(parse_choice(choices, word, &index, error));
        bits |= 1U << index;
        at = next;
    }
    *out = bits;
    return STATUS_OK;
}

/* Cuts the next blank-separated word off *at. False at the end. A word that is too long is an error
 * at the caller's use. */
static bool next_word(const char **at, char word[WORD_BYTES_MAX])
{
    *at += strspn(*at, " \t");
    size_t bytes = strcspn(*at, " \t");
    if (bytes == 0) {
        return false;
    }
    (void)snprintf(word, WORD_BYTES_MAX, "%.*s",
                   (int)(bytes < WORD_BYTES_MAX ? bytes : WORD_BYTES_MAX), *at);
    *at += bytes;
    return true;
}

/* The named parts of a value such as `uniform lo=1tok hi=9tok`. */
struct part {
    const char *name;
    bool required;
    bool given;
    char text[WORD_BYTES_MAX];
};

static enum status parse_parts(const char *at, struct part *parts, uint32_t count,
                               struct error *error)
{
    char word[WORD_BYTES_MAX];
    while (next_word(&at, word)) {
        char *equals = strchr(word, '=');
        char hint[WORD_BYTES_MAX * 2];
        struct nearest nearest = {.word = word};
        struct part *found = NULL;
        if (equals == NULL || equals[1] == '\0') {
            return error_set(error, STATUS_INVALID, "expected name=value, found '%.40s'", word);
        }
        *equals = '\0';
        for (uint32_t i = 0; i < count; i++) {
            nearest_offer(&nearest, parts[i].name);
            if (strcmp(parts[i].name, word) == 0) {
                found = &parts[i];
            }
        }
        if (found == NULL) {
            return error_set(error, STATUS_INVALID, "unknown '%.40s='%s", word,
                             nearest_hint(&nearest, hint, sizeof hint));
        }
        if (found->given) {
            return error_set(error, STATUS_INVALID, "'%s=' is given twice", found->name);
        }
        found->given = true;
        (void)snprintf(found->text, sizeof found->text, "%s", equals + 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].required && !parts[i].given) {
            return error_set(error, STATUS_INVALID, "'%s=' is missing", parts[i].name);
        }
    }
    return STATUS_OK;
}

static enum status parse_tokens(const struct option *option, const char *text,
                                const struct value_machine *machine, uint32_t *out,
                                struct error *error)
{
    size_t bytes = strlen(text);
    char sum[WORD_BYTES_MAX * 2];
    int64_t tokens = 0;
    if (bytes < 4 || bytes >= sizeof sum || strcmp(text + bytes - 3, "tok") != 0) {
        return error_set(error, STATUS_INVALID, "'%.40s' is no token count: write 128tok or 2Ktok",
                         text);
    }
    memcpy(sum, text, bytes - 3);
    sum[bytes - 3] = '\0';
    TRY(integer(sum, machine, &tokens, error));
    TRY(limits(option, tokens, error));
    *out = (uint32_t)tokens;
    return STATUS_OK;
}

static enum status lengths_check(const struct scenario_lengths *l, struct scenario_lengths *out,
                                 struct error *error)
{
    if (l->lo > l->hi) {
        return error_set(error, STATUS_INVALID, "the least value %u is above the greatest, %u",
                         l->lo, l->hi);
    }
    *out = *l;
    return STATUS_OK;
}

static enum status parse_lengths(const struct option *option, const char *text,
                                 const struct value_machine *machine, struct scenario_lengths *out,
                                 struct error *error)
{
    const char *at = text;
    char word[WORD_BYTES_MAX] = "";
    struct scenario_lengths l = {.kind = SCENARIO_LENGTHS_FIXED};
    (void)next_word(&at, word);
    if (strcmp(word, "uniform") == 0) {
        struct part parts[] = {{.name = "lo", .required = true}, {.name = "hi", .required = true}};
        l.kind = SCENARIO_LENGTHS_UNIFORM;
        TRY(parse_parts(at, parts, 2, error));
        TRY(parse_tokens(option, parts[0].text, machine, &l.lo, error));
        TRY(parse_tokens(option, parts[1].text, machine, &l.hi, error));
        l.mean = l.lo / 2 + l.hi / 2 + (l.lo % 2 + l.hi % 2) / 2;
        return lengths_check(&l, out, error);
    }
    if (strcmp(word, "lognormal") == 0) {
        struct part parts[] = {{.name = "mean", .required = true},
                               {.name = "sd", .required = true},
                               {.name = "min", .required = true},
                               {.name = "max", .required = true}};
        l.kind = SCENARIO_LENGTHS_LOGNORMAL;
        TRY(parse_parts(at, parts, 4, error));
        TRY(parse_tokens(option, parts[0].text, machine, &l.mean, error));
        TRY(parse_tokens(option, parts[1].text, machine, &l.sd, error));
        TRY(parse_tokens(option, parts[2].text, machine, &l.lo, error));
        TRY(parse_tokens(option, parts[3].text, machine, &l.hi, error));
        return lengths_check(&l, out, error);
    }
    if (isalpha((unsigned char)word[0])) {
        char hint[WORD_BYTES_MAX * 2];
        struct nearest nearest = {.word = word};
        nearest_offer(&nearest, "uniform");
        nearest_offer(&nearest, "lognormal");
        return error_set(error, STATUS_INVALID, "unknown distribution '%.40s'%s", word,
                         nearest_hint(&nearest, hint, sizeof hint));
    }
    TRY(parse_tokens(option, text, machine, &l.lo, error));
    l.hi = l.lo;
    l.mean = l.lo;
    *out = l;
    return STATUS_OK;
}

static enum status parse_arrival(const char *text, const struct value_machine *machine,
                                 struct scenario_arrival *out, struct error *error)
{
    static const struct option cv_limits = {.min = 0, .max = 10};
    static const struct option burst_limits = {.min = 1, .max = 1 << 20};
    const char *at = text;
    char word[WORD_BYTES_MAX] = "";
    struct scenario_arrival a = {.kind = 0};
    (void)next_word(&at, word);
    TRY(parse_choice("poisson|constant|gamma|bursts", word, &a.kind, error));
    if (a.kind == SCENARIO_ARRIVAL_GAMMA) {
        struct part parts[] = {{.name = "cv", .required = true}};
        TRY(parse_parts(at, parts, 1, error));
        TRY(parse_number(&cv_limits, parts[0].text, "", &a.cv, error));
    } else if (a.kind == SCENARIO_ARRIVAL_BURSTS) {
        struct part parts[] = {{.name = "of", .required = true},
                               {.name = "every", .required = true}};
        int64_t burst = 0;
        TRY(parse_parts(at, parts, 2, error));
        TRY(integer(parts[0].text, machine, &burst, error));
        TRY(limits(&burst_limits, burst, error));
        TRY(value_time(parts[1].text, &a.burst_every_ns, error));
        a.burst_count = (uint32_t)burst;
    } else {
        TRY(parse_parts(at, NULL, 0, error));
    }
    *out = a;
    return STATUS_OK;
}

static enum status parse_quantile_time(const char *text, struct scenario_quantile_time *out,
                                       struct error *error)
{
    const char *at = text;
    char word[WORD_BYTES_MAX] = "";
    char time[WORD_BYTES_MAX] = "";
    char rest[WORD_BYTES_MAX];
    struct decimal d = {.whole = 0};
    struct scenario_quantile_time value;
    bool ok =
        next_word(&at, word) && next_word(&at, time) && !next_word(&at, rest) && word[0] == 'p';
    const char *end = ok ? decimal_read(word + 1, &d) : NULL;
    if (end == NULL || *end != '\0' || d.whole >= 100) {
        return error_set(error, STATUS_INVALID, "'%.40s' is no quantile and time: write p99 5ms",
                         text);
    }
    TRY(value_time(time, &value.time_ns, error));
    value.quantile = decimal_double(&d, 100);
    *out = value;
    return STATUS_OK;
}

static enum status parse_price(const struct option *option, const char *text, double *out,
                               struct error *error)
{
    if (parse_number(option, text, "per gpu-hour", out, NULL) != STATUS_OK) {
        return error_set(error, STATUS_INVALID,
                         "'%.40s' is no price, or more than %" PRId64 ": write 2.50 per gpu-hour",
                         text, option->max);
    }
    return STATUS_OK;
}

/* "120/s peak" or "120/s peak, 35/s mean". */
static enum status parse_demand(const char *text, const struct value_machine *machine,
                                struct scenario_demand *out, struct error *error)
{
    static const struct option rate_limits = {.min = 0, .max = 10000000};
    struct scenario_demand d = {0, 0};
    const char *at = text;
    char rate[WORD_BYTES_MAX];
    char word[WORD_BYTES_MAX];
    bool good = true;
    while (good && next_word(&at, rate)) {
        good = next_word(&at, word);
        size_t bytes = good ? strlen(word) : 0;
        bool more = bytes > 0 && word[bytes - 1] == ',';
        word[bytes - (more ? 1 : 0)] = '\0';
        double *field = good && strcmp(word, "peak") == 0   ? &d.peak_per_s
                        : good && strcmp(word, "mean") == 0 ? &d.mean_per_s
                                                            : NULL;
        good = field != NULL && *field <= 0 && more == (at[strspn(at, " \t")] != '\0');
        if (good) {
            TRY(parse_rate(&rate_limits, rate, machine, field, error));
        }
    }
    if (!good || d.peak_per_s <= 0 || d.mean_per_s > d.peak_per_s) {
        return error_set(error, STATUS_INVALID,
                         "'%.60s' is no demand: write 120/s peak, or 120/s peak, 35/s mean", text);
    }
    *out = d;
    return STATUS_OK;
}

static enum status topology_count(const struct part *part, uint32_t index,
                                  const struct value_machine *machine, int64_t *out,
                                  struct error *error)
{
    static const int64_t most[] = {TOPOLOGY_API_SERVERS_MAX, SCENARIO_ENGINES_MAX,
                                   TOPOLOGY_WORKERS_PER_ENGINE_MAX,
                                   TOPOLOGY_WORKERS_PER_ENGINE_MAX};
    int64_t value = 1;
    if (part->given) {
        TRY(integer(part->text, machine, &value, error));
    }
    if (value < 1 || value > most[index]) {
        return error_set(error, STATUS_INVALID, "%s: want 1 to %" PRId64 ", got %" PRId64,
                         part->name, most[index], value);
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_topology(const char *text, const struct value_machine *machine,
                                  struct topology *out, struct error *error)
{
    struct part parts[] = {{.name = "api_servers", .required = true},
                           {.name = "dp", .required = true},
                           {.name = "tp"},
                           {.name = "pp"}};
    int64_t values[4];
    TRY(parse_parts(text, parts, 4, error));
    for (uint32_t i = 0; i < 4; i++) {
        TRY(topology_count(&parts[i], i, machine, &values[i], error));
    }
    if (values[2] * values[3] > TOPOLOGY_WORKERS_PER_ENGINE_MAX) {
        return error_set(error, STATUS_INVALID,
                         "tp x pp: want at most %d workers of an engine core, got %" PRId64,
                         TOPOLOGY_WORKERS_PER_ENGINE_MAX, values[2] * values[3]);
    }
    out->api_servers_count = (uint32_t)values[0];
    out->engines_count = (uint32_t)values[1];
    out->tp = (uint32_t)values[2];
    out->pp = (uint32_t)values[3];
    return STATUS_OK;
}

static const char *model_name_at(uint32_t index)
{
    const struct model_shape *shape = model_shape_at(index);
    return shape != NULL ? shape->name : NULL;
}

static enum status known_name(const char *what, const char *name,
                              const char *(*name_at)(uint32_t index), struct error *error)
{
    struct nearest nearest = {.word = name};
    char hint[WORD_BYTES_MAX * 2];
    char all[300] = "";
    for (uint32_t i = 0; name_at(i) != NULL; i++) {
        size_t used = strlen(all);
        if (strcmp(name_at(i), name) == 0) {
            return STATUS_OK;
        }
        nearest_offer(&nearest, name_at(i));
        (void)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ", name_at(i));
    }
    return error_set(error, STATUS_INVALID, "unknown %s '%.40s'%s (known: %s)", what, name,
                     nearest_hint(&nearest, hint, sizeof hint), all);
}

static enum status parse_device(const char *text, struct topology *out, struct error *error)
{
    struct part parts[] = {{.name = "gpu", .required = true}, {.name = "model", .required = true}};
    const char *at = text;
    char word[WORD_BYTES_MAX] = "";
    (void)next_word(&at, word);
    if (strcmp(word, "cpu") == 0 || strcmp(word, "cuda") == 0) {
        return error_set(error, STATUS_INVALID, "device '%s' is not supported by this build", word);
    }
    if (strcmp(word, "emulated") != 0) {
        return error_set(error, STATUS_INVALID,
                         "unknown device '%.40s': write emulated gpu=h100 model=llama-3.1-8b",
                         word);
    }
    TRY(parse_parts(at, parts, 2, error));
    TRY(known_name("gpu", parts[0].text, option_gpu_at, error));
    TRY(known_name("model", parts[1].text, model_name_at, error));
    (void)snprintf(out->gpu, sizeof out->gpu, "%.31s", parts[0].text);
    (void)snprintf(out->model, sizeof out->model, "%.63s", parts[1].text);
    return STATUS_OK;
}

static enum status parse_text(const struct option *option, const char *text, char *out,
                              struct error *error)
{
    if (strlen(text) >= option->bytes) {
        return error_set(error, STATUS_INVALID, "longer than %zu characters", option->bytes - 1);
    }
    for (const char *at = text; option->type == OPTION_NAME && *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && strchr("_-.", *at) == NULL) {
            return error_set(error, STATUS_INVALID,
                             "'%.40s' is no name: letters, digits, '_', '-' and '.' only", text);
        }
    }
    memset(out, 0, option->bytes);
    (void)snprintf(out, option->bytes, "%s", text);
    return STATUS_OK;
}

static enum status parse_integer(const struct option *option, const char *text,
                                 const struct value_machine *machine, void *out,
                                 struct error *error)
{
    int64_t value = 0;
    TRY(integer(text, machine, &value, error));
    TRY(limits(option, value, error));
    if (option->type == OPTION_SEED) {
        *(uint64_t *)out = (uint64_t)value;
    } else {
        *(uint32_t *)out = (uint32_t)value;
    }
    return STATUS_OK;
}

static enum status parse_word(const struct option *option, const char *text, void *out,
                              struct error *error)
{
    uint32_t index = 0;
    bool flag = false;
    switch ((int)option->type) {
    case OPTION_WORD:
        TRY(parse_choice(option->choices, text, &index, error));
        return parse_text(option, text, out, error);
    case OPTION_CHOICE:
        return parse_choice(option->choices, text, out, error);
    case OPTION_SET:
        return parse_set(option->choices, text, out, error);
    case OPTION_BOOL:
        return parse_bool(text, out, error);
    default:
        TRY(parse_bool(text, &flag, error));
        *(uint32_t *)out = flag ? 1 : 0;
        return STATUS_OK;
    }
}

enum status value_parse(const struct option *option, const char *text,
                        const struct value_machine *machine, void *base, struct error *error)
{
    void *out = (unsigned char *)base + option->offset;
    if (text[0] == '\0' && option->type != OPTION_TEXT) {
        return error_set(error, STATUS_INVALID, "the value is missing");
    }
    switch (option->type) {
    case OPTION_TEXT:
    case OPTION_CONDITION:
    case OPTION_NAME:
        return parse_text(option, text, out, error);
    case OPTION_COUNT:
    case OPTION_SEED:
        return parse_integer(option, text, machine, out, error);
    case OPTION_NUMBER:
        return parse_number(option, text, "", out, error);
    case OPTION_TIME:
        return parse_time(option, text, out, error);
    case OPTION_RATE:
        return parse_rate(option, text, machine, out, error);
    case OPTION_PERCENT:
        return parse_number(option, text, "%", out, error);
    case OPTION_BOOL:
    case OPTION_SWITCH:
    case OPTION_CHOICE:
    case OPTION_WORD:
    case OPTION_SET:
        return parse_word(option, text, out, error);
    case OPTION_PRICE:
        return parse_price(option, text, out, error);
    case OPTION_DEMAND:
        return parse_demand(text, machine, out, error);
    case OPTION_SOURCE:
        return value_source(text, out, error);
    case OPTION_LENGTHS:
        return parse_lengths(option, text, machine, out, error);
    case OPTION_ARRIVAL:
        return parse_arrival(text, machine, out, error);
    case OPTION_QUANTILE_TIME:
        return parse_quantile_time(text, out, error);
    case OPTION_TOPOLOGY:
        return parse_topology(text, machine, out, error);
    case OPTION_DEVICE:
        return parse_device(text, out, error);
    case OPTION_PINS:
        return value_pins(text, out, error);
    case OPTION_LAUNCH:
        return value_launch(text, option->choices, base, error);
    case OPTION_URL:
        return value_url(text, out, error);
    case OPTION_COUNTERS:
        return value_counters(text, out, error);
    case OPTION_TITLE:
        return value_title(text, out, option->bytes, error);
    case OPTION_ELASTICITY:
        return value_elasticity(text, option->choices, out, error);
    case OPTION_COSTS:
        return value_costs(text, out, error);
    case OPTION_LIST:
        break;
    }
    return STATUS_OK; /* lists are read by value_list() */
}
