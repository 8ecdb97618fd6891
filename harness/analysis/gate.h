/*
 * gate.h - is one version slower than another? Statistics on replicate runs (one number a run:
 * requests of a run are correlated), paired where runs of both versions alternated, else not.
 * `harness compare` drives it. Pure functions: no I/O, no clock, no allocation.
 *
 * Everything works on log ratios, so a change is a fraction of the base. Tests are exact and
 * one-sided: with n pairs none can be surer than 2^-n, so below 5 pairs nothing can be shown at 5
 * %, and bounds are NAN.
 */
#ifndef HARNESS_ANALYSIS_GATE_H
#define HARNESS_ANALYSIS_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GATE_RUNS_MAX = 32,     /* of either version */
    GATE_SIGN_FLIP_MAX = 16 /* pairs whose sign patterns are all tried */
};

/* ---- exact tests ---- */

/* Bounds that each hold with probability 1 - alpha; NAN where none is that sure. */
struct gate_bounds {
    double lo;
    double hi;
};

/* Hodges-Lehmann: the median of the averages of all pairs of differences. NAN without any. */
double gate_centre(const double *differences, size_t count);
struct gate_bounds gate_centre_bounds(const double *differences, size_t count, double alpha);
/* Wilcoxon's signed ranks: probability of so many positive averages if nothing differs. */
double gate_signed_rank_p(const double *differences, size_t count);
/* Probability of so large a sum if every sign were a coin's; count <= GATE_SIGN_FLIP_MAX. */
double gate_sign_flip_p(const double *differences, size_t count);

struct gate_samples {
    const double *base;
    size_t base_count;
    const double *changed;
    size_t changed_count;
};

/* Hodges-Lehmann: the median of all differences changed - base. NAN without any. */
double gate_shift(const struct gate_samples *s);
struct gate_bounds gate_shift_bounds(const struct gate_samples *s, double alpha);
/* Mann-Whitney: probability of so many changed > base if nothing differs. */
double gate_mann_whitney_p(const struct gate_samples *s);

/* Fisher's exact test: probability that so many of all that failed fell on the changed version. */
struct gate_failures {
    uint64_t base_failed;
    uint64_t base_count;
    uint64_t changed_failed;
    uint64_t changed_count;
};
double gate_fisher_p(const struct gate_failures *f);

/* Holm: adjusted[i] <= alpha exactly where the step-down procedure rejects. NAN stays NAN and
 * counts as no comparison. */
void gate_holm(const double *p, size_t count, double *adjusted);

/* ---- a metric of two versions ---- */

struct gate_rule {
    bool higher_is_better;
    double tolerance_frac; /* a worsening up to this is accepted */
    double alpha;          /* of all looks together */
    uint32_t looks_count;  /* how often the growing data is judged; 1 if once */
};

struct gate_effect {
    bool paired;
    uint32_t base_count;
    uint32_t changed_count;
    double change_frac; /* estimate, signed as measured: -0.03 is 3 % less; NAN: no runs */
    double change_lo_frac;
    double change_hi_frac;
    double p_worse; /* NAN: no runs */
    double p_better;
    double least_p;         /* below which no test on so many runs can get */
    double detectable_frac; /* the worsening that four of five such comparisons would call a
                               regression; NAN: none */
};

enum gate_verdict {
    GATE_OK,          /* a worsening beyond the tolerance is excluded */
    GATE_IMPROVEMENT, /* better for certain, and by more than the tolerance */
    GATE_INCONCLUSIVE,
    GATE_REGRESSION, /* worse for certain, and by more than the tolerance */
};

/* All values > 0. base[i] and changed[i] ran one after the other. */
void gate_compare_pairs(const double *base, const double *changed, uint32_t count,
                        const struct gate_rule *rule, struct gate_effect *effect);
void gate_compare_unpaired(const struct gate_samples *s, const struct gate_rule *rule,
                           struct gate_effect *effect);
/* p_worse and p_better are those of the effect, adjusted for all that is compared. */
enum gate_verdict gate_judge(const struct gate_effect *effect, const struct gate_rule *rule,
                             double p_worse, double p_better);
/* "ok", "improvement", "inconclusive", "regression". */
const char *gate_verdict_name(enum gate_verdict verdict);
/* Pairs below which `comparisons` together cannot show anything. */
uint32_t gate_pairs_needed(const struct gate_rule *rule, size_t comparisons);

#endif
