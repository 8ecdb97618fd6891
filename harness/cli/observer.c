/*
 * observer.c - `harness load --observe`: a table by stage and one by engine core of what was seen
 * from outside (observer.h). Looks at nothing itself.
 */
#include "harness/cli/observer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    ENGINES_MAX = 1024,
};

#define BUSY_FRAC 0.85 /* of a core: one thread does no more than that for long */

bool observer_option(struct observer *o, const char *text)
{
    o->wanted = true;
    if (strcmp(text, "auto") == 0) {
        o->options.patterns_count = foreign_patterns_known(o->options.patterns);
        return true;
    }
    while (*text != '\0') {
        char one[FOREIGN_TITLE_BYTES + FOREIGN_STAGE_BYTES];
        size_t bytes = strcspn(text, ",");
        if (bytes >= sizeof one || o->options.patterns_count == FOREIGN_PATTERNS_MAX) {
            return false;
        }
        memcpy(one, text, bytes);
        one[bytes] = '\0';
        if (!foreign_pattern_parse(one, &o->options.patterns[o->options.patterns_count++])) {
            return false;
        }
        text += bytes;
        text += *text == ',' ? 1 : 0;
    }
    return o->options.patterns_count > 0;
}

bool observer_begin(struct observer *o, const struct load_target *server)
{
    struct error error;
    if (!o->wanted) {
        return true;
    }
    o->options.server = *server;
    (void)snprintf(o->options.page, sizeof o->options.page, "/metrics");
    if (outside_begin(&o->outside, &o->options, &error) != STATUS_OK) {
        (void)fprintf(stderr,
                      "harness load: --observe: nobody listens on port %u of this machine whose "
                      "processes may be looked at (other machine? other user?), and %s\n",
                      server->port, error.text);
        return false;
    }
    return true;
}

void observer_tick(struct observer *o, uint32_t phase)
{
    if (o->wanted) {
        outside_tick(&o->outside, phase);
    }
}

/* ---- tables ---- */

static void print_percent(double frac, int width)
{
    if (isnan(frac)) {
        (void)printf("%*s", width, "-");
    } else {
        (void)printf("%*.0f %%", width - 2, frac * 100);
    }
}

static void print_stage(const struct foreign_stage *s)
{
    (void)printf("  %-14s %6u %8u %8.2f", s->stage, s->processes_count, s->threads_count, s->cores);
    print_percent(s->use_frac, 8);
    print_percent(s->max_frac, 8);
    print_percent(s->wait_frac, 8);
    print_percent(s->idle_frac, 8);
    (void)printf("%10.0f%10.0f", s->voluntary_per_s, s->involuntary_per_s);
    if (isnan(s->migrations_per_s)) {
        (void)printf("%8s", "-");
    } else {
        (void)printf("%8.0f", s->migrations_per_s);
    }
    (void)printf("  %s%s\n", foreign_quality_text(s->quality),
                 s->quality != FOREIGN_SPINS && s->max_frac >= BUSY_FRAC ? ", full" : "");
}

static void print_stages(const struct outside *o)
{
    struct foreign_stage stages[FOREIGN_STAGES_MAX];
    struct foreign_looks looks = outside_looks(o);
    size_t count = foreign_stages(&o->system, &looks, stages);
    (void)printf("stages in the window (source: proc%s):\n",
                 o->system.by_order ? "; no known titles, stages guessed from port and descent"
                                    : "");
    (void)printf("  %-14s %6s %8s %8s%8s%8s%8s%8s%10s%10s%8s  %s\n", "stage", "procs", "threads",
                 "cores", "use", "busiest", "waits", "idle", "sleeps/s", "pushed/s", "moved/s",
                 "quality");
    for (size_t i = 0; i < count; i++) {
        if (stages[i].processes_count > 0 || stages[i].quality == FOREIGN_ENDED) {
            print_stage(&stages[i]);
        }
    }
    double pressure = foreign_pressure_frac(looks.from, looks.to);
    if (!isnan(pressure)) {
        (void)printf("  somebody on this host waited for a processor %.0f %% of the time\n",
                     pressure * 100);
    }
}

static void print_quantile(const struct prometheus_histogram *h, const char *name, double quantile)
{
    double lo = 0;
    double hi = 0;
    if (!prometheus_quantile(h, quantile, &lo, &hi)) {
        return;
    }
    if (isinf(hi)) {
        (void)printf("   %s over %g", name, lo * 1e3);
    } else {
        (void)printf("   %s in %g..%g", name, lo * 1e3, hi * 1e3);
    }
}

/* Quantiles only as the bucket they lie in: more the server does not tell. */
static void print_times(const struct outside *o, const char *name, const char *text)
{
    struct prometheus_histogram from;
    struct prometheus_histogram to;
    struct prometheus_histogram window;
    if (prometheus_histogram(&o->metrics[0], name, NULL, NULL, &from) &&
        prometheus_histogram(&o->metrics[1], name, NULL, NULL, &to) &&
        prometheus_since(&from, &to, &window) && window.count > 0) {
        (void)printf("  %-8s ms: mean %.2f", text, window.sum / window.count * 1e3);
        print_quantile(&window, "p50", 0.5);
        print_quantile(&window, "p90", 0.9);
        (void)printf("   of %.0f\n", window.count);
    }
}

/* Tokens of each engine core in the window, and what it had to do under load. */
static void print_engines(const struct outside *o)
{
    static const char tokens[] = "vllm:generation_tokens_total";
    double all = outside_since(o, tokens, NULL);
    const struct prometheus *begun = &o->metrics[0];
    const struct prometheus *p = &o->metrics[1];
    uint32_t shown = 0;
    for (size_t i = 0; i < p->samples_count && shown < ENGINES_MAX; i++) {
        const struct prometheus_sample *s = &p->samples[i];
        const char *engine = prometheus_label(p, s, "engine");
        if (strcmp(s->name, tokens) != 0 || engine == NULL) {
            continue;
        }
        double own = outside_since(o, tokens, engine);
        shown++;
        (void)printf(
            "  engine %-7.20s %8.0f tokens (%.1f %%); as it began running %.0f, waiting %.0f\n",
            engine, own, all > 0 ? 100 * own / all : 0,
            prometheus_sum(begun, "vllm:num_requests_running", "engine", engine),
            prometheus_sum(begun, "vllm:num_requests_waiting", "engine", engine));
    }
}

static void print_metrics(const struct outside *o)
{
    const struct prometheus *p = &o->metrics[1];
    if (!o->scraped[0] || !o->scraped[1]) {
        (void)printf("no /metrics from http://%s:%u\n", o->options.server.host,
                     o->options.server.port);
        return;
    }
    (void)printf("what http://%s:%u/metrics says of the window:\n", o->options.server.host,
                 o->options.server.port);
    if (p->malformed_count > 0) {
        (void)printf("  %u lines could not be read, the first is line %u: %s\n", p->malformed_count,
                     p->malformed_line, p->malformed_why);
    }
    if (isnan(outside_since(o, "vllm:generation_tokens_total", NULL))) {
        (void)printf("  no counters of a known name (vllm:generation_tokens_total)\n");
        return;
    }
    print_engines(o);
    print_times(o, "vllm:request_queue_time_seconds", "queue");
    print_times(o, "vllm:time_to_first_token_seconds", "TTFT");
    print_times(o, "vllm:e2e_request_latency_seconds", "E2E");
}

void observer_print(struct observer *o)
{
    if (!o->wanted) {
        return;
    }
    outside_end(&o->outside);
    if (!outside_is_seen(&o->outside)) {
        (void)printf("nothing was observed: the window did not begin and end, or the server did\n");
        return;
    }
    print_stages(&o->outside);
    print_metrics(&o->outside);
}

void observer_free(struct observer *o)
{
    if (o->wanted) {
        outside_end(&o->outside);
        outside_free(&o->outside);
    }
}
