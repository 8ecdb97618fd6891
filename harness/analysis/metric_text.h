/*
 * metric_text.h - what every metric means, in one table: definition, formula, unit, the columns
 * that carry it, and what other tools compute under the same name. `harness metrics` prints it.
 * Constant data and look-ups; no I/O.
 */
#ifndef HARNESS_ANALYSIS_METRIC_TEXT_H
#define HARNESS_ANALYSIS_METRIC_TEXT_H

#include <stddef.h>

enum metric_other {
    METRIC_VLLM,
    METRIC_GUIDELLM,
    METRIC_AIPERF,
    METRIC_INFERENCE_PERF,
    METRIC_MLPERF,
    METRIC_SGLANG,
    METRIC_OTHERS_COUNT
};

struct metric_text {
    const char *name;
    const char *also; /* other names, apart by spaces; NULL: none */
    const char *unit; /* "" for ratios */
    const char *definition;
    const char *formula;
    /* "FILE:COLUMN,COLUMN FILE:COLUMN"; a star in a column stands for any text. NULL: in no file */
    const char *columns;
    const char *others[METRIC_OTHERS_COUNT]; /* NULL: nothing comparable */
};

size_t metric_text_count(void);
const struct metric_text *metric_text_at(size_t index);
/* By name, other name or column, capital or small, words apart by '_', '-' or a space. NULL: not
 * known. */
const struct metric_text *metric_text_find(const char *name);

/* "vLLM", "GuideLLM" ... */
const char *metric_other_name(enum metric_other other);
/* What the letters in other tools' formulas stand for. */
const char *metric_letters(void);

#endif
