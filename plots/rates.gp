# rates.gp - style.gp and what a search found in each cell, for the figures of searches. Wants `name`, `width`, `height` and `here`.
load here.'/style.gp'
set datafile separator tab
rates = folder.'/plot_rates.tsv'; knees = folder.'/plot_knees.tsv'

series = 0
array series_label[64]; array series_colour[64]; array capacity[64]; array stable[64]; array slo[64]; array knee[64]
array first_max[64]; array token_max[64]
stats knees using (series = series < 64 ? series + 1 : series, series_label[series] = strcol("label"), \
    series_colour[series] = colours[(series - 1) % 7 + 1], capacity[series] = known("capacity_rps"), \
    stable[series] = known("stable_rate_rps"), slo[series] = known("slo_rate_rps"), knee[series] = known("knee_rps"), \
    first_max[series] = known("ttft_max_ms"), token_max[series] = known("tpot_max_ms"), 1) nooutput
if (series == 0) {
    series_label[1] = 'no data'; series_colour[1] = colours[7]
    capacity[1] = NaN; stable[1] = NaN; slo[1] = NaN; knee[1] = NaN; first_max[1] = NaN; token_max[1] = NaN
}

# Of one cell: means of the runs of a rate; single runs that are evidence; those that are not.
of(i, what) = int(column("series")) + 1 == i && column("mean") == 1 ? known(what) : NaN
solid(i, what) = int(column("series")) + 1 == i && column("mean") == 0 && column("evidence") == 1 ? known(what) : NaN
hollow(i, what) = int(column("series")) + 1 == i && column("mean") == 0 && column("evidence") == 0 ? known(what) : NaN
greater(a, b) = a > b ? a : b
smaller(a, b) = a < b ? a : b # b if a is not known
