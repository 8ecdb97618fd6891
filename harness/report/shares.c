/*
 * shares.c - shares of API servers and engine cores (shares.h).
 */
#include "harness/report/shares.h"

#include <math.h>

#include "harness/report/summary.h"

enum {
    TOLD_MAX = 8,   /* values one by one */
    ROUND_ROBIN = 2 /* of the choices of [server] router */
};

#define MOST_PLACES 0.75 /* in use: then requests wait somewhere now and then, however routed */

static double known(double value)
{
    return isnan(value) ? 0 : value;
}

static double sum_of(const double *values, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += known(values[i]);
    }
    return sum;
}

double shares_peak(const double *values, uint32_t count)
{
    double sum = sum_of(values, count);
    double most = 0;
    for (uint32_t i = 0; i < count; i++) {
        most = fmax(most, known(values[i]));
    }
    return sum > 0 ? most * count / sum : STATS_UNKNOWN;
}

void shares_tell(struct text *t, const double *values, uint32_t count)
{
    double sum = sum_of(values, count);
    double least = STATS_UNKNOWN;
    double most = STATS_UNKNOWN;
    if (!(sum > 0)) {
        text_add(t, "-");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        double share = known(values[i]) / sum * 100;
        least = fmin(least, share);
        most = fmax(most, share);
        if (count <= TOLD_MAX) {
            text_add(t, "%s%.0f", i > 0 ? "/" : "", share);
        }
    }
    if (count > TOLD_MAX) {
        text_add(t, "least %.1f, greatest %.1f of %u", least, most, count);
    }
}

static uint32_t servers_of(const struct run_result *r)
{
    uint32_t count = r->cell->topology.api_servers_count;
    return count < LOAD_API_SERVERS_MAX ? count : LOAD_API_SERVERS_MAX;
}

static uint32_t ranks_of(const struct run_result *r)
{
    uint32_t count = r->cell->topology.engines_count;
    return count < r->ranks_count ? count : r->ranks_count;
}

struct grid shares_grid(const struct summary *s)
{
    static const char *const columns[] = {"<cell",        "<API servers %",  "greatest/mean",
                                          "Jain's index", "<engine cores %", "greatest/mean",
                                          "Jain's index"};
    struct grid g = grid_of(columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < s->points_count; i++) {
        const struct run_result *r = s->points[i].run;
        if (r == NULL) {
            continue;
        }
        grid_text(&g, r->cell->name);
        struct text t = grid_cell(&g);
        shares_tell(&t, r->api_tok_per_s, servers_of(r));
        grid_number(&g, shares_peak(r->api_tok_per_s, servers_of(r)), 2);
        grid_number(&g, stats_jain(r->api_tok_per_s, servers_of(r)), 3);
        t = grid_cell(&g);
        shares_tell(&t, r->engine_tok_per_s, ranks_of(r));
        grid_number(&g, shares_peak(r->engine_tok_per_s, ranks_of(r)), 2);
        grid_number(&g, r->rank_jain, 3);
    }
    return g;
}

static const char *api_cause(const struct run_result *r)
{
    if (r->cell->topology.accept == (uint32_t)ACCEPT_SHARED) {
        return "connections of one burst on the shared accept queue go to whoever wakes first "
               "(accept = reuseport, balance = yes)";
    }
    if (!r->cell->client.balance) {
        return "the kernel spreads connections by their hash and the client does not balance them "
               "(balance = yes)";
    }
    return "each has as many connections: what differs is how many requests they brought and how "
           "long these were";
}

static const char *engine_cause(const struct run_result *r)
{
    const struct topology *t = &r->cell->topology;
    if (t->publish_off != 0) {
        return "the engine cores publish no counts, so that the router sees them all alike";
    }
    if (r->users_count > 0 && r->users_count < t->engines_count) {
        return "there are fewer users than engine cores";
    }
    if (r->users_count > 0 && r->users_count % t->engines_count != 0 &&
        r->users_count < 4 * t->engines_count) {
        return "the users are few and cannot be divided evenly";
    }
    if (t->nodes_count > 0 && t->balancing == (uint32_t)BALANCING_INDEPENDENT) {
        return "independent servers know nothing of each other's requests";
    }
    if (t->api_servers_count > 1) {
        return "each API server routes by counts of its own and by published ones that are old";
    }
    return "the router's counts lag behind, or requests differ much in length";
}

static void tell(struct text *t, const char *what, const double *values, uint32_t count,
                 const char *cause)
{
    text_add(t, "%s%s unevenly used (", t->used > 0 ? " " : "", what);
    shares_tell(t, values, count);
    text_add(t, " %%, greatest/mean %.2f): %s.", shares_peak(values, count), cause);
}

/* Mean over the engine cores of the places that a step has in use. */
static double places_used(const struct run_result *r)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->engines_count; i++) {
        sum += known(r->engines[i].batch_mean);
    }
    return r->engines_count > 0 ? sum / r->engines_count / r->cell->topology.max_num_seqs : 0;
}

/* What may have sent requests to a full engine core while another had a free place. */
static const char *stranded_cause(const struct run_result *r)
{
    const struct topology *t = &r->cell->topology;
    if (t->nodes_count > 0 && t->balancing == (uint32_t)BALANCING_INDEPENDENT) {
        return "independent servers know nothing of each other's requests";
    }
    if (t->router_rule == (uint32_t)ROUND_ROBIN) {
        return "round robin looks at no counts";
    }
    if (places_used(r) > MOST_PLACES) {
        return "most places are in use, and a request cannot move once it is sent to an engine "
               "core";
    }
    if (t->publish_off != 0) {
        return "the engine cores publish no counts, so that an API server sees its own requests "
               "only (publish = yes)";
    }
    if (t->api_servers_count > 1) {
        return "an API server sees what the others have sent only in published counts, and these "
               "are old (stale): see publish_interval";
    }
    return "a request cannot move to another engine core once it is sent to one";
}

static bool is_uneven(const double *values, uint32_t count)
{
    return shares_peak(values, count) > SHARES_ALARM;
}

static bool is_stranded(const struct run_result *r)
{
    return r->stranded_frac > STRANDED_ALARM;
}

void shares_alarm(const struct run_result *r, struct text *t)
{
    if (is_uneven(r->api_tok_per_s, servers_of(r))) {
        tell(t, "API servers", r->api_tok_per_s, servers_of(r), api_cause(r));
    }
    if (is_uneven(r->engine_tok_per_s, ranks_of(r))) {
        tell(t, "Engine cores", r->engine_tok_per_s, ranks_of(r), engine_cause(r));
    }
    if (is_stranded(r)) {
        text_add(t, "%sRequests waited at a full engine core while another had free places for ",
                 t->used > 0 ? " " : "");
        text_percent(t, r->stranded_frac);
        text_add(t, " of the time: %s.", stranded_cause(r));
    }
}

const char *shares_alarm_name(const struct summary_point *p)
{
    static const char *const names[] = {"",
                                        "api_servers",
                                        "engine_cores",
                                        "api_servers+engine_cores",
                                        "stranded_requests",
                                        "api_servers+stranded_requests",
                                        "engine_cores+stranded_requests",
                                        "api_servers+engine_cores+stranded_requests"};
    const struct run_result *r = p->run;
    if (r == NULL) {
        return "";
    }
    unsigned which = is_uneven(r->api_tok_per_s, servers_of(r)) ? 1U : 0U;
    which |= is_uneven(r->engine_tok_per_s, ranks_of(r)) ? 2U : 0U;
    which |= is_stranded(r) ? 4U : 0U;
    return names[which];
}
