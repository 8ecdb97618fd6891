# 04-rates.gp - latency against the requests finished in a second, from the open loops of a search: the hockey stick.
#
#     gnuplot -e "folder='results/x'" plots/04-rates.gp
#
# Panels: time to the first token, between tokens, of the whole request. Upright lines: capacity, the rate within the
# limits, the knee. Level lines: the limits. Hollow: the client or the host was the limit, no evidence.
name = '04-rates'; width = 900; height = 860
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/rates.gp'

array what[3] = ['ttft', 'tpot', 'e2el']
array said[3] = ['time to first token, ms', 'time between tokens, ms', 'time to last token, ms']
array least[3]; array most[3]
x_max = 0
do for [k = 1:3] { least[k] = NaN; most[k] = 0 }
stats rates using (x_max = greater(known("achieved_rps"), x_max), 1) nooutput
do for [k = 1:3] {
    stats rates using (most[k] = greater(known(what[k].'_p99_ms'), greater(known(what[k].'_p95_ms'), greater(known(what[k].'_p50_ms'), most[k]))), \
        known(what[k].'_p50_ms') > 0 ? (least[k] = smaller(least[k], known(what[k].'_p50_ms'))) : 1, 1) nooutput
}
do for [i = 1:series] {
    x_max = greater(capacity[i], x_max)
    most[1] = greater(first_max[i], most[1]); most[2] = greater(token_max[i], most[2])
}

unset label 1000
set xrange [0:x_max > 0 ? x_max * 1.06 : 1]
set logscale y
set ytics (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
set key top left reverse Left samplen 2.5 maxrows 4
set lmargin 10
set multiplot layout 3, 1 margins 0.105, 0.98, (dumb ? 0.12 : 0.1), 0.94 spacing 0.0, 0.05
set title (series == 1 ? sprintf('Latency against throughput: capacity %.4g/s%s%s', capacity[1], \
    slo[1] > 0 ? sprintf(', %.4g/s within the limits', slo[1]) : '', knee[1] > 0 ? sprintf(', knee at %.4g/s', knee[1]) : '') \
    : 'Latency against throughput') noenhanced textcolor rgb ink font ',13' offset 0, -0.2
set format x ''
do for [i = 1:(series < 8 ? series : 8)] {
    if (capacity[i] > 0) { set arrow from first capacity[i], graph 0 to first capacity[i], graph 1 nohead lw 1.2 lc rgb series_colour[i] back }
    if (slo[i] > 0) { set arrow from first slo[i], graph 0 to first slo[i], graph 1 nohead dashtype 2 lw 1.2 lc rgb series_colour[i] back }
    if (knee[i] > 0) { set arrow from first knee[i], graph 0 to first knee[i], graph 1 nohead dashtype 3 lw 1.4 lc rgb series_colour[i] back }
}
do for [k = 1:3] {
    set ylabel said[k] textcolor rgb ink
    if (dumb) { set label 3000 said[k] at graph 0.6, graph 0.9 left } # upright text does not fit
    set yrange [(least[k] > 0 ? least[k] * 0.6 : 0.5):(most[k] > 0 ? most[k] * (k == 1 ? 8 : 1.6) : 10)]
    if (k == 3) {
        set format x '%g'
        set xlabel 'requests finished/s' textcolor rgb ink
        if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.012 left font ',8' textcolor rgb pale noenhanced }
    }
    plot for [i = 1:series] rates using (of(i, 'achieved_rps')):(of(i, what[k].'_p50_ms')) \
            with lines lw 2 lc rgb series_colour[i] title (k == 1 ? series_label[i].', p50' : ''), \
        for [i = 1:series] rates using (of(i, 'achieved_rps')):(of(i, what[k].'_p95_ms')) \
            with lines dashtype 2 lw 1.6 lc rgb series_colour[i] title (k == 1 && i == 1 ? 'dashed: p95' : ''), \
        for [i = 1:series] rates using (of(i, 'achieved_rps')):(of(i, what[k].'_p99_ms')) \
            with lines dashtype 3 lw 1.6 lc rgb series_colour[i] title (k == 1 && i == 1 ? 'dotted: p99' : ''), \
        for [i = 1:series] rates using (solid(i, 'achieved_rps')):(solid(i, what[k].'_p50_ms')) with points pt 7 ps 0.6 lc rgb series_colour[i] notitle, \
        for [i = 1:series] rates using (hollow(i, 'achieved_rps')):(hollow(i, what[k].'_p50_ms')) with points pt 6 ps 0.9 lc rgb series_colour[i] notitle, \
        for [i = 1:1] (k == 1 ? first_max[i] : k == 2 ? token_max[i] : NaN) with lines lw 1.2 lc rgb pale title (k == 1 && first_max[i] > 0 ? 'limit' : ''), \
        NaN with lines lw 1.2 lc rgb pale title (k == 1 ? 'upright: capacity' : ''), \
        NaN with lines dashtype 2 lw 1.2 lc rgb pale title (k == 1 && slo[1] > 0 ? 'upright: within the limits' : ''), \
        NaN with lines dashtype 3 lw 1.4 lc rgb pale title (k == 1 && knee[1] > 0 ? 'upright: knee' : '')
    unset title
    unset key
}
unset multiplot
