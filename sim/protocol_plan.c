/*
 * protocol_plan.c - plans of protocol_plan.h as text, both ways. Driven by the driver's users; it
 * must not know what a fault does.
 */
#include "sim/protocol_plan.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORDS_MAX = 16,
    MS_MAX = 4000000,
};

/* What a clause of a fault says, in this order. */
enum {
    SAYS_PROCESS = 1,
    SAYS_TO = 2,
    SAYS_FACTOR = 4,
    SAYS_BY = 8,
    SAYS_FOR = 16,
    NEEDS_FOR = 32,
};

static const struct {
    const char *name;
    unsigned says;
    const char *form;
} kinds[PROTOCOL_FAULT_KINDS] = {
    {"delay", SAYS_PROCESS | SAYS_TO | SAYS_BY | SAYS_FOR,
     "delay PROCESS to PROCESS by MS [at MS] [for MS]"},
    {"reorder", SAYS_BY | SAYS_FOR, "reorder by MS [at MS] [for MS]"},
    {"pause", SAYS_PROCESS | SAYS_FOR | NEEDS_FOR, "pause PROCESS [at MS] for MS"},
    {"slow", SAYS_PROCESS | SAYS_FACTOR | SAYS_FOR, "slow rank N xFACTOR [at MS] [for MS]"},
    {"crash", SAYS_PROCESS, "crash PROCESS [at MS]"},
    {"rejoin", SAYS_PROCESS | SAYS_FOR, "rejoin rank N [at MS], or rejoin api N [at MS] for MS"},
};

static const char *const parts[] = {"cancels", "aborts", "pauses", "stalls", "bad-start"};

enum {
    PARTS_COUNT = sizeof parts / sizeof parts[0]
};

const char *protocol_fault_name(enum protocol_fault_kind kind)
{
    return kinds[kind].name;
}

/* ---- writing ---- */

struct text {
    char *out;
    size_t used;
};

PRINTF_LIKE(2, 3)
static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int bytes = vsnprintf(t->out + t->used, PROTOCOL_PLAN_BYTES - t->used, fmt, args);
    va_end(args);
    ASSERT(bytes >= 0 && t->used + (size_t)bytes < PROTOCOL_PLAN_BYTES);
    t->used += (size_t)bytes;
}

static void begin_clause(struct text *t, const char *name)
{
    put(t, "%s%s", t->used > 0 ? "; " : "", name);
}

int protocol_process_write(uint32_t process, char *out, size_t cap)
{
    if (process < PROTOCOL_RANKS_MAX) {
        return snprintf(out, cap, "rank %u", process);
    }
    if (process < PROCESS_COORDINATOR) {
        return snprintf(out, cap, "api %u", process - PROTOCOL_RANKS_MAX);
    }
    return snprintf(out, cap, "%s", process == PROCESS_COORDINATOR ? "coordinator" : "launcher");
}

static void put_process(struct text *t, const char *before, uint32_t process)
{
    char name[32];
    (void)protocol_process_write(process, name, sizeof name);
    put(t, "%s%s", before, name);
}

static void put_ms(struct text *t, const char *before, uint32_t us)
{
    put(t, " %s %u", before, us / 1000);
    if (us % 1000 > 0) {
        put(t, ".%03u", us % 1000);
    }
}

static void put_fault(struct text *t, const struct protocol_fault *f)
{
    unsigned says = kinds[f->kind].says;
    begin_clause(t, kinds[f->kind].name);
    if ((says & SAYS_PROCESS) != 0) {
        put_process(t, " ", f->process);
    }
    if ((says & SAYS_TO) != 0) {
        put_process(t, " to ", f->to);
    }
    if ((says & SAYS_FACTOR) != 0) {
        put(t, " x%u", f->factor);
    }
    if ((says & SAYS_BY) != 0) {
        put_ms(t, "by", f->by_us);
    }
    if (f->at_us > 0) {
        put_ms(t, "at", f->at_us);
    }
    if (f->for_us > 0) {
        put_ms(t, "for", f->for_us);
    }
}

static void put_requests(struct text *t, uint32_t mask)
{
    const char *before = " ";
    begin_clause(t, "requests");
    for (uint32_t i = 0; i < PROTOCOL_REQUESTS_MAX; i++) {
        if ((mask >> i & 1) != 0) {
            put(t, "%s%u", before, i);
            before = ",";
        }
    }
}

void protocol_plan_write(const struct protocol_plan *plan, char out[PROTOCOL_PLAN_BYTES])
{
    struct text t = {.out = out};
    out[0] = '\0';
    for (uint32_t i = 0; i < plan->faults_count; i++) {
        put_fault(&t, &plan->faults[i]);
    }
    if (plan->ranks_count > 0) {
        begin_clause(&t, "ranks");
        put(&t, " %u", plan->ranks_count);
    }
    if (plan->clients_count > 0) {
        begin_clause(&t, "apis");
        put(&t, " %u", plan->clients_count);
    }
    if (plan->requests != 0) {
        put_requests(&t, plan->requests);
    }
    for (uint32_t i = 0; i < PARTS_COUNT; i++) {
        if ((plan->without >> i & 1) != 0) {
            begin_clause(&t, "without ");
            put(&t, "%s", parts[i]);
        }
    }
    if (plan->end_us > 0) {
        begin_clause(&t, "end");
        put_ms(&t, "at", plan->end_us);
    }
    if (t.used == 0) {
        put(&t, "none");
    }
}

/* ---- reading ---- */

struct clause {
    const char *text;
    char *words[WORDS_MAX];
    size_t count;
    size_t at;
};

static const char *peek(const struct clause *c)
{
    return c->at < c->count ? c->words[c->at] : "";
}

static bool take(struct clause *c, const char *word)
{
    bool same = strcmp(peek(c), word) == 0;
    c->at += same;
    return same;
}

static bool take_number(struct clause *c, uint32_t max, uint32_t *out)
{
    const char *word = peek(c);
    char *end = NULL;
    unsigned long value = strtoul(word, &end, 10);
    if (*word < '0' || *word > '9' || *end != '\0' || value > max) {
        return false;
    }
    *out = (uint32_t)value;
    c->at++;
    return true;
}

static bool take_ms(struct clause *c, uint32_t *us)
{
    const char *word = peek(c);
    char *end = NULL;
    double value = strtod(word, &end);
    if (*word < '0' || *word > '9' || *end != '\0' || !(value <= MS_MAX)) {
        return false;
    }
    *us = (uint32_t)(value * 1000.0 + 0.5);
    c->at++;
    return true;
}

static bool take_process(struct clause *c, uint32_t *process)
{
    uint32_t index = 0;
    if (take(c, "coordinator")) {
        *process = PROCESS_COORDINATOR;
        return true;
    }
    if (take(c, "launcher")) {
        *process = PROCESS_LAUNCHER;
        return true;
    }
    if (take(c, "rank")) {
        *process = 0;
        return take_number(c, PROTOCOL_RANKS_MAX - 1, process);
    }
    if (take(c, "api") && take_number(c, PROTOCOL_CLIENTS_MAX - 1, &index)) {
        *process = PROTOCOL_RANKS_MAX + index;
        return true;
    }
    return false;
}

static bool take_factor(struct clause *c, uint32_t *factor)
{
    char *word = c->at < c->count ? c->words[c->at] : NULL;
    if (word == NULL || word[0] != 'x') {
        return false;
    }
    c->words[c->at] = word + 1;
    return take_number(c, 1000, factor) && *factor > 1;
}

static bool take_fault(struct clause *c, struct protocol_fault *f)
{
    unsigned says = kinds[f->kind].says;
    if ((says & SAYS_PROCESS) != 0 && !take_process(c, &f->process)) {
        return false;
    }
    if ((says & SAYS_TO) != 0 && !(take(c, "to") && take_process(c, &f->to))) {
        return false;
    }
    if ((says & SAYS_FACTOR) != 0 && !take_factor(c, &f->factor)) {
        return false;
    }
    if ((says & SAYS_BY) != 0 && !(take(c, "by") && take_ms(c, &f->by_us))) {
        return false;
    }
    if (take(c, "at") && !take_ms(c, &f->at_us)) {
        return false;
    }
    if ((says & SAYS_FOR) != 0 && take(c, "for") && !(take_ms(c, &f->for_us) && f->for_us > 0)) {
        return false;
    }
    bool rank = f->process < PROTOCOL_RANKS_MAX;
    bool api = !rank && f->process < PROCESS_COORDINATOR;
    bool needs_for = (says & NEEDS_FOR) != 0 || (f->kind == PROTOCOL_REJOIN && api);
    return c->at == c->count && (f->for_us > 0 || !needs_for) &&
           (rank || f->kind != PROTOCOL_SLOW) && (rank || api || f->kind != PROTOCOL_REJOIN) &&
           (f->kind != PROTOCOL_REJOIN || api || f->for_us == 0);
}

static enum status bad_clause(const struct clause *c, const char *want, struct error *error)
{
    return error_set(error, STATUS_INVALID, "plan: '%s': want %s", c->text, want);
}

static enum status read_requests(struct clause *c, struct protocol_plan *plan, struct error *error)
{
    const char *rest = c->count == 2 ? c->words[1] : "";
    do {
        char *end = NULL;
        unsigned long value = strtoul(rest, &end, 10);
        if (*rest < '0' || *rest > '9' || (*end != ',' && *end != '\0') ||
            value >= PROTOCOL_REQUESTS_MAX) {
            return bad_clause(c, "requests N[,N...], each below 32", error);
        }
        plan->requests |= 1U << value;
        rest = *end == ',' ? end + 1 : NULL;
    } while (rest != NULL);
    return STATUS_OK;
}

static enum status read_without(struct clause *c, struct protocol_plan *plan, struct error *error)
{
    for (uint32_t i = 0; i < PARTS_COUNT; i++) {
        if (c->count == 2 && take(c, parts[i])) {
            plan->without |= 1U << i;
            return STATUS_OK;
        }
    }
    return bad_clause(c, "without cancels, aborts, pauses, stalls or bad-start", error);
}

static enum status read_less(struct clause *c, struct protocol_plan *plan, struct error *error)
{
    if (take(c, "requests")) {
        return read_requests(c, plan, error);
    }
    if (take(c, "without")) {
        return read_without(c, plan, error);
    }
    bool ranks = take(c, "ranks");
    bool good = false;
    if (ranks || take(c, "apis")) {
        uint32_t *out = ranks ? &plan->ranks_count : &plan->clients_count;
        good = take_number(c, PROTOCOL_RANKS_MAX, out) && *out > 0 && c->at == c->count;
        return good ? STATUS_OK : bad_clause(c, "ranks N or apis N, 1 to 4", error);
    }
    if (take(c, "end")) {
        good = take(c, "at") && take_ms(c, &plan->end_us) && plan->end_us > 0 && c->at == c->count;
        return good ? STATUS_OK : bad_clause(c, "end at MS", error);
    }
    return bad_clause(c,
                      "delay, reorder, pause, slow, crash, rejoin, ranks, apis, requests, without "
                      "or end",
                      error);
}

static enum status read_clause(struct clause *c, struct protocol_plan *plan, struct error *error)
{
    for (uint32_t k = 0; k < PROTOCOL_FAULT_KINDS; k++) {
        if (!take(c, kinds[k].name)) {
            continue;
        }
        struct protocol_fault fault = {.kind = (enum protocol_fault_kind)k};
        if (!take_fault(c, &fault)) {
            return bad_clause(c, kinds[k].form, error);
        }
        if (plan->faults_count == PROTOCOL_FAULTS_MAX) {
            return error_set(error, STATUS_INVALID, "plan: '%s': more than %d faults", c->text,
                             PROTOCOL_FAULTS_MAX);
        }
        plan->faults[plan->faults_count++] = fault;
        return STATUS_OK;
    }
    return read_less(c, plan, error);
}

enum status protocol_plan_parse(const char *text, struct protocol_plan *out, struct error *error)
{
    struct protocol_plan plan = {0};
    char copy[PROTOCOL_PLAN_BYTES];
    char words[PROTOCOL_PLAN_BYTES];
    if (strlen(text) >= sizeof copy) {
        return error_set(error, STATUS_INVALID, "plan: longer than %d characters",
                         PROTOCOL_PLAN_BYTES - 1);
    }
    memcpy(copy, text, strlen(text) + 1);
    char *next = copy;
    for (char *clause = strsep(&next, ";"); clause != NULL; clause = strsep(&next, ";")) {
        clause += strspn(clause, " ");
        struct clause c = {.text = clause};
        memcpy(words, clause, strlen(clause) + 1);
        char *rest = words;
        for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
            if (*word != '\0' && c.count < WORDS_MAX) {
                c.words[c.count++] = word;
            }
        }
        if (c.count == 0 || (c.count == 1 && strcmp(c.words[0], "none") == 0)) {
            continue;
        }
        TRY(read_clause(&c, &plan, error));
    }
    *out = plan;
    return STATUS_OK;
}
