# 08-stages.gp - how busy each stage is, one panel for each curve.
#
#     gnuplot -e "folder='results/x'" plots/08-stages.gp
name = '08-stages'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
set datafile separator tab
set datafile columnheaders
curves_count = 0
stats folder.'/plot_curves.tsv' using (curves_count = curves_count + 1, 1) nooutput
width = 1000; height = curves_count > 3 ? 720 : 460
load here.'/style.gp'

points = folder.'/plot_points.csv'
x_max = 1
stats points using (x_max = column("cores") > x_max ? column("cores") : x_max, 1) nooutput
panels = curves < 1 ? 1 : (curves > 6 ? 6 : curves)
across = panels > 3 ? int((panels + 1) / 2) : panels
down = panels > 3 ? 2 : 1

array stage[7] = ['api_server', 'gpu', 'scheduler', 'launch', 'ipc', 'coordinator', 'client']
array said[7] = ['API server', 'GPU', 'engine core', 'launching worker', 'engine core I/O', 'coordinator', 'load client']
array tint[7] = [0xD55E00, 0x009E73, 0x0072B2, 0xCC79A7, 0x56B4E9, 0x8a8a8a, 0xE69F00]

mine(i, what) = column("curve") == i ? column(what) : NaN
use(i, what) = column("curve") == i && strlen(strcol(what)) > 0 ? column(what) * 100 : NaN

set xrange [0:x_max * 1.06]
set yrange [0:108]
set xtics 1
if (x_max > 16) { set xtics autofreq }
set xlabel plural textcolor rgb ink
set ylabel 'use of a server, %' textcolor rgb ink offset 1.5, 0
unset key
unset label 1000

# Title and legend once for all panels; only stages that were observed. In text the legend is a key in the first panel.
array seen[7]
at_x = 0.05
do for [k = 1:7] {
    seen[k] = 0
    stats points using (seen[k] = strlen(strcol(stage[k])) > 0 ? 1 : seen[k], 1) nooutput
    if (seen[k] && !dumb) {
        set label 2000 + k said[k] at screen at_x + 0.012, screen 0.885 left font ',10' textcolor rgb ink noenhanced
        set label 2010 + k '' at screen at_x, screen 0.885 point pt 7 ps 1 lc rgb tint[k]
        at_x = at_x + 0.035 + 0.0085 * strlen(said[k])
    }
}
if (dumb) { set key outside top center horizontal }
set label 2020 'Use of each stage; on the dashed line (85 %) a stage counts as full' at screen 0.5, screen 0.955 center \
    font ',13' textcolor rgb ink noenhanced
if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.025 left font ',8' textcolor rgb pale noenhanced }

set multiplot layout down, across margins 0.07, 0.98, (dumb ? 0.12 : (down > 1 ? 0.13 : 0.19)), (down > 1 ? 0.81 : 0.78) spacing 0.05, 0.15
do for [i = 1:panels] {
    set title (i <= curves ? label[i] : 'no data') noenhanced textcolor rgb ink font ',11' offset 0, -0.6
    plot 85 with lines dashtype 2 lw 1 lc rgb pale notitle, \
        for [k = 1:7] points using (mine(i - 1, "cores")):(use(i - 1, stage[k])) \
            with linespoints lw 1.8 pt 7 ps 0.6 lc rgb tint[k] title (dumb && seen[k] ? said[k] : '')
    do for [k = 1:7] { unset label 2000 + k; unset label 2010 + k }
    unset label 1000; unset label 2020; unset ylabel; unset key
}
unset multiplot
