# 15-pareto.gp - output tokens/s that one user sees against those that one GPU yields, a point for each cell, a line
# for each series in the order of the sweep.
#
#     gnuplot -e "folder='results/x'" plots/15-pareto.gp
#
# Hollow: the host was too busy, no evidence.
name = '15-pareto'; width = 900; height = 520
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

x_max = 0; y_max = 0
stats cells using (x_max = known("user_tok_per_s") > x_max ? known("user_tok_per_s") : x_max, \
    y_max = known("gpu_tok_per_s") > y_max ? known("gpu_tok_per_s") : y_max, 1) nooutput

set title 'Speed for a user against yield of a GPU' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'output tokens/s of one user, between its first and last token' textcolor rgb ink
set ylabel 'output tokens/s of one GPU' textcolor rgb ink
set xrange [0:x_max > 0 ? x_max * 1.25 : 1]
set yrange [0:y_max > 0 ? y_max * 1.15 : 1]
set key left bottom reverse Left samplen 1.5
named(i) = strlen(strcol("user_tok_per_s")) > 0 && int(column("series")) + 1 == i ? strcol("label") : ''

plot for [i = 1:series] cells using (of(i, "user_tok_per_s")):(of(i, "gpu_tok_per_s")) \
        with lines lw 1.2 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (solid(i, "user_tok_per_s")):(solid(i, "gpu_tok_per_s")) \
        with points pt 7 ps 1.0 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (hollow(i, "user_tok_per_s")):(hollow(i, "gpu_tok_per_s")) \
        with points pt 6 ps 1.1 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (of(i, "user_tok_per_s")):(of(i, "gpu_tok_per_s")):(rows <= 8 ? named(i) : '') \
        with labels left offset 0.8, 0.4 font ',8' textcolor rgb ink notitle, \
    for [i = 1:series] NaN with linespoints lw 1.2 pt 7 ps 1.0 lc rgb series_colour[i] title series_label[i]
