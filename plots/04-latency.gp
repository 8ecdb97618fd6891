# 04-latency.gp - latency against the requests finished in a second: the hockey stick.
#
#     gnuplot -e "folder='results/x'" plots/04-latency.gp
#
# Upper panel: time to the first token, p50 and (dashed) p99. Lower: time between tokens. Hollow: the host was too busy.
name = '04-latency'; width = 900; height = 640
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

x_max = 0; first_max = 0; token_max = 0; p99_count = 0
greater(a, b) = a > b ? a : b
stats cells using (x_max = greater(known("achieved_rps"), x_max), first_max = greater(known("ttft_p99_ms"), greater(known("ttft_p50_ms"), first_max)), \
    token_max = greater(known("tpot_p50_ms"), token_max), p99_count = strlen(strcol("ttft_p99_ms")) > 0 ? p99_count + 1 : p99_count, 1) nooutput

unset label 1000
set xrange [0:x_max > 0 ? x_max * 1.06 : 1]
set key top left reverse Left samplen 2.5
set lmargin 10
set multiplot layout 2, 1 margins 0.105, 0.98, (dumb ? 0.12 : 0.13), 0.92 spacing 0.0, 0.08
set title 'Latency against throughput' noenhanced textcolor rgb ink font ',13' offset 0, -0.2
set format x ''
set ylabel 'time to first token, ms' textcolor rgb ink
set yrange [0:first_max > 0 ? first_max * 1.3 : 1]
plot for [i = 1:series] cells using (of(i, "achieved_rps")):(of(i, "ttft_p50_ms")) \
        with lines lw 2 lc rgb series_colour[i] title series_label[i].', p50', \
    for [i = 1:series] cells using (of(i, "achieved_rps")):(of(i, "ttft_p99_ms")) \
        with lines dashtype 2 lw 1.6 lc rgb series_colour[i] title (i == 1 && p99_count > 0 ? 'dashed: p99' : ''), \
    for [i = 1:series] cells using (solid(i, "achieved_rps")):(solid(i, "ttft_p50_ms")) with points pt 7 ps 0.8 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (solid(i, "achieved_rps")):(solid(i, "ttft_p99_ms")) with points pt 7 ps 0.5 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (hollow(i, "achieved_rps")):(hollow(i, "ttft_p50_ms")) with points pt 6 ps 1.0 lc rgb series_colour[i] notitle
unset title
unset key
set format x '%g'
set xlabel 'requests finished/s' textcolor rgb ink
set ylabel 'time between tokens, ms' textcolor rgb ink
set yrange [0:token_max > 0 ? token_max * 1.3 : 1]
if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.018 left font ',8' textcolor rgb pale noenhanced }
plot for [i = 1:series] cells using (of(i, "achieved_rps")):(of(i, "tpot_p50_ms")) \
        with lines lw 2 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (solid(i, "achieved_rps")):(solid(i, "tpot_p50_ms")) with points pt 7 ps 0.8 lc rgb series_colour[i] notitle, \
    for [i = 1:series] cells using (hollow(i, "achieved_rps")):(hollow(i, "tpot_p50_ms")) with points pt 6 ps 1.0 lc rgb series_colour[i] notitle
unset multiplot
