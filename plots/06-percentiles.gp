# 06-percentiles.gp - percentiles of the time to the first token and of the time per output token against the requests offered.
#
#     gnuplot -e "folder='results/x'" plots/06-percentiles.gp
#
# Upper panel: time to the first token, from when a request was due. Lower: time per output token. Level lines: limits of
# the [slo]. Hollow: the host was too busy, no evidence.
name = '06-percentiles'; width = 900; height = 680
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

array level[4] = ['p50', 'p90', 'p95', 'p99']
array dash[4] = [1, 4, 2, 3]
array what[2] = ['ttft_sched', 'tpot']
array said[2] = ['time to first token, ms', 'time per output token, ms']
array least[2]; array most[2]; array limit[2]
x_max = 0
greater(a, b) = a > b ? a : b
smaller(a, b) = a < b ? a : b # b if a is not known
do for [k = 1:2] { least[k] = NaN; most[k] = 0; limit[k] = NaN }
stats cells using (x_max = greater(known("offered_rps"), x_max), 1) nooutput
do for [k = 1:2] {
    do for [n = 1:4] {
        stats cells using (most[k] = greater(known(what[k].'_'.level[n].'_ms'), most[k]), \
            known(what[k].'_'.level[n].'_ms') > 0 ? (least[k] = smaller(least[k], known(what[k].'_'.level[n].'_ms'))) : 1, 1) nooutput
    }
}
stats cells using (known("ttft_max_ms") > 0 ? (limit[1] = known("ttft_max_ms")) : 1, known("tpot_max_ms") > 0 ? (limit[2] = known("tpot_max_ms")) : 1, 1) nooutput
do for [k = 1:2] { most[k] = greater(limit[k], most[k]) }

unset label 1000
set xrange [0:x_max > 0 ? x_max * 1.06 : 1]
set logscale y
set key top left reverse Left samplen 3 maxrows 4
set lmargin 10
set multiplot layout 2, 1 margins 0.105, 0.98, (dumb ? 0.12 : 0.12), 0.92 spacing 0.0, 0.06
set title 'Percentiles of latency against requests offered' noenhanced textcolor rgb ink font ',13' offset 0, -0.2
set format x ''
do for [k = 1:2] {
    set ylabel said[k] textcolor rgb ink
    set yrange [(least[k] > 0 ? least[k] * 0.6 : 0.5):(most[k] > 0 ? most[k] * (k == 1 ? 6 : 1.8) : 10)]
    if (k == 2) {
        set format x '%g'
        set xlabel 'requests offered/s' textcolor rgb ink
        if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.016 left font ',8' textcolor rgb pale noenhanced }
    }
    plot for [i = 1:series] for [n = 1:4] cells using (of(i, "offered_rps")):(of(i, what[k].'_'.level[n].'_ms')) \
            with lines dashtype dash[n] lw (n == 1 ? 2 : 1.6) lc rgb series_colour[i] \
            title (k == 1 && n == 1 ? series_label[i].', p50' : k == 1 && i == 1 ? level[n] : ''), \
        for [i = 1:series] for [n = 1:4] cells using (solid(i, "offered_rps")):(solid(i, what[k].'_'.level[n].'_ms')) \
            with points pt 7 ps 0.6 lc rgb series_colour[i] notitle, \
        for [i = 1:series] for [n = 1:4] cells using (hollow(i, "offered_rps")):(hollow(i, what[k].'_'.level[n].'_ms')) \
            with points pt 6 ps 0.8 lc rgb series_colour[i] notitle, \
        limit[k] with lines lw 1.2 lc rgb pale title (k == 1 && limit[k] > 0 ? 'limit' : '')
    unset title
    unset key
}
unset multiplot
