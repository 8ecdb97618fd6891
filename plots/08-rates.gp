# 08-rates.gp - how busy each stage is at each rate of a search, one panel for each cell.
#
#     gnuplot -e "folder='results/x'" plots/08-rates.gp
#
# Upright line: capacity.
name = '08-rates'; width = 1000; height = 460
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/rates.gp'

panels = series < 1 ? 1 : (series > 6 ? 6 : series)
across = panels > 3 ? int((panels + 1) / 2) : panels
down = panels > 3 ? 2 : 1

array stage[7] = ['api_server', 'gpu', 'scheduler', 'launch', 'ipc', 'coordinator', 'client']
array said[7] = ['API server', 'GPU', 'engine core', 'launching worker', 'engine core I/O', 'coordinator', 'load client']
array tint[7] = [0xD55E00, 0x009E73, 0x0072B2, 0xCC79A7, 0x56B4E9, 0x8a8a8a, 0xE69F00]

x_max = 0
stats rates using (x_max = greater(known("offered_rps"), x_max), 1) nooutput
set xrange [0:x_max > 0 ? x_max * 1.06 : 1]
set yrange [0:108]
set xlabel 'requests offered/s' textcolor rgb ink
set ylabel 'use of a server, %' textcolor rgb ink offset 1.5, 0
unset key
unset label 1000

# Title and legend once for all panels; only stages that were observed. In text the legend is a key in the first panel.
array seen[7]
at_x = 0.05
do for [k = 1:7] {
    seen[k] = 0
    stats rates using (seen[k] = strlen(strcol(stage[k])) > 0 ? 1 : seen[k], 1) nooutput
    if (seen[k] && !dumb) {
        set label 2000 + k said[k] at screen at_x + 0.012, screen 0.885 left font ',10' textcolor rgb ink noenhanced
        set label 2010 + k '' at screen at_x, screen 0.885 point pt 7 ps 1 lc rgb tint[k]
        at_x = at_x + 0.035 + 0.0085 * strlen(said[k])
    }
}
if (dumb) { set key outside top center horizontal }
set label 2020 'Use of each stage against the rate; on the dashed line (85 %) a stage counts as full' at screen 0.5, screen 0.955 center \
    font ',13' textcolor rgb ink noenhanced
if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.025 left font ',8' textcolor rgb pale noenhanced }

percent(i, what) = of(i, what) * 100
set multiplot layout down, across margins 0.07, 0.98, (dumb ? 0.12 : (down > 1 ? 0.13 : 0.19)), (down > 1 ? 0.81 : 0.78) spacing 0.05, 0.15
do for [i = 1:panels] {
    set title series_label[i] noenhanced textcolor rgb ink font ',11' offset 0, -0.6
    unset arrow
    if (capacity[i] > 0) { set arrow from first capacity[i], graph 0 to first capacity[i], graph 1 nohead lw 1.2 lc rgb pale back }
    plot 85 with lines dashtype 2 lw 1 lc rgb pale notitle, \
        for [k = 1:7] rates using (of(i, "offered_rps")):(percent(i, stage[k])) \
            with linespoints lw 1.8 pt 7 ps 0.6 lc rgb tint[k] title (dumb && seen[k] ? said[k] : '')
    do for [k = 1:7] { unset label 2000 + k; unset label 2010 + k }
    unset label 1000; unset label 2020; unset ylabel; unset key
}
unset multiplot
