# 07-goodput.gp - requests that kept every limit of the [slo], a second, against the requests offered.
#
#     gnuplot -e "folder='results/x'" plots/07-goodput.gp
#
# Thin: requests finished, within the limits or not. Bars: 95 % interval. Hollow: the host was too busy, no evidence.
name = '07-goodput'; width = 900; height = 520
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

most = 0
greater(a, b) = a > b ? a : b
stats cells using (most = greater(known("offered_rps"), greater(known("achieved_rps"), most)), 1) nooutput

set title 'Requests within the limits against requests offered' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'requests offered/s' textcolor rgb ink
set ylabel 'requests/s' textcolor rgb ink
set xrange [0:most > 0 ? most * 1.06 : 1]
set yrange [0:most > 0 ? most * 1.12 : 1]
set key left top reverse Left samplen 2.5
good(i, what) = of(i, what) * column("offered_rps")

plot x with lines dashtype 2 lw 1.2 lc rgb pale title 'all that is offered', \
    for [i = 1:series] cells using (of(i, "offered_rps")):(of(i, "achieved_rps")) \
        with lines lw 0.8 lc rgb series_colour[i] title (i == 1 ? 'thin: finished' : ''), \
    for [i = 1:series] cells using (of(i, "offered_rps")):(of(i, "goodput_rps")) \
        with lines lw 2 lc rgb series_colour[i] title series_label[i].', within the limits', \
    for [i = 1:series] cells using (of(i, "offered_rps")):(good(i, "good_frac_lo")):(0):(good(i, "good_frac_hi") - good(i, "good_frac_lo")) \
        with vectors nohead lw 1.2 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (solid(i, "offered_rps")):(solid(i, "goodput_rps")) with points pt 7 ps 0.8 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (hollow(i, "offered_rps")):(hollow(i, "goodput_rps")) with points pt 6 ps 1.0 lc rgb series_colour[i] notitle
