/*
 * answer.h - a session's answer on stdout for a program instead of a person: the rows of a CSV, or
 * one JSON object.
 */
#ifndef HARNESS_REPORT_ANSWER_H
#define HARNESS_REPORT_ANSWER_H

#include "harness/report/report.h"

enum answer_format {
    ANSWER_TEXT, /* tables for a person: report_print_table() and its like */
    ANSWER_CSV,  /* the rows of points.csv; of a search for rates those of knee.csv */
    ANSWER_JSON  /* verdict, exit status, folder and the rows of all these files in one object */
};

struct answer {
    const struct scenario *scenario;
    const struct run_result *results;
    uint32_t results_count;
    const struct knees *knees; /* without rows: no rates were searched for */
    const struct report_conclusion *conclusion;
    const char *folder;
    int exit_status;
};

/* "text", "csv", "json"; false: none of them. */
bool answer_format_of(const char *word, enum answer_format *out);
/* `format` is not ANSWER_TEXT. */
void answer_print(const struct answer *answer, enum answer_format format, FILE *out);

#endif
