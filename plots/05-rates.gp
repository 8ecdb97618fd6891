# 05-rates.gp - requests finished against requests offered, from the open loops of a search, and the line on which the
# two are equal.
#
#     gnuplot -e "folder='results/x'" plots/05-rates.gp
#
# Level lines: capacity. Upright: the stable rate. Hollow: the client or the host was the limit, no evidence.
name = '05-rates'; width = 900; height = 520
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/rates.gp'

most = 0
stats rates using (most = greater(known("offered_rps"), greater(known("achieved_rps"), most)), 1) nooutput

set title 'Requests finished against requests offered in the search' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'requests offered/s' textcolor rgb ink
set ylabel 'requests finished/s' textcolor rgb ink
set xrange [0:most > 0 ? most * 1.06 : 1]
set yrange [0:most > 0 ? most * 1.12 : 1]
set key left top reverse Left samplen 2.5
do for [i = 1:(series < 8 ? series : 8)] {
    if (capacity[i] > 0) { set arrow from graph 0, first capacity[i] to graph 1, first capacity[i] nohead lw 1.2 lc rgb series_colour[i] back }
    if (stable[i] > 0) { set arrow from first stable[i], graph 0 to first stable[i], graph 1 nohead dashtype 2 lw 1.2 lc rgb series_colour[i] back }
}

plot x with lines dashtype 2 lw 1.2 lc rgb pale title 'all that is offered', \
    for [i = 1:series] rates using (of(i, "offered_rps")):(of(i, "achieved_rps")) \
        with lines lw 2 lc rgb series_colour[i] title series_label[i], \
    for [i = 1:series] rates using (solid(i, "offered_rps")):(solid(i, "achieved_rps")) with points pt 7 ps 0.8 lc rgb series_colour[i] notitle, \
    for [i = 1:series] rates using (hollow(i, "offered_rps")):(hollow(i, "achieved_rps")) with points pt 6 ps 1.0 lc rgb series_colour[i] notitle, \
    NaN with lines lw 1.2 lc rgb pale title 'level: capacity', \
    NaN with lines dashtype 2 lw 1.2 lc rgb pale title 'upright: stable rate'
