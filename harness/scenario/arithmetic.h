/*
 * arithmetic.h - integer arithmetic in scenario values: `2 * 4 * 40`, `$ncpus - 1`, `4Ki`, and the
 * conditions of `skip`.
 *
 *     sum     := product { (+|-) product }        product := factor { (*|/) factor }
 *     factor  := number [K Ki M Mi G Gi] | name | $name | '(' sum ')' | '-' factor
 *     cond    := all { 'or' all }                 all     := compare { 'and' compare }
 *     compare := sum (< <= > >= == !=) sum
 *
 * Overflow, division by zero and unknown names are errors with a sentence; nesting is bounded.
 */
#ifndef HARNESS_SCENARIO_ARITHMETIC_H
#define HARNESS_SCENARIO_ARITHMETIC_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Gives the integer of a name ("$ncpus", or an axis in conditions); an error text when there is
 * none. */
struct arithmetic_scope {
    const void *ctx;
    enum status (*lookup)(const void *ctx, const char *name, int64_t *out, struct error *error);
};

MUST_CHECK enum status arithmetic_integer(const char *text, const struct arithmetic_scope *scope,
                                          int64_t *out, struct error *error);
MUST_CHECK enum status arithmetic_condition(const char *text, const struct arithmetic_scope *scope,
                                            bool *out, struct error *error);

#endif
