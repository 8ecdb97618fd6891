# 02-efficiency.gp - throughput as a share of what one engine core gives times their number.
#
#     gnuplot -e "folder='results/x'" plots/02-efficiency.gp
name = '02-efficiency'; width = 900; height = 500
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'

points = folder.'/plot_points.csv'
x_max = 1
stats points using (x_max = column("cores") > x_max ? column("cores") : x_max, 1) nooutput

set title title_efficiency noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel plural textcolor rgb ink
set ylabel 'parallel efficiency, %' textcolor rgb ink
set xrange [0:x_max * 1.06]
set yrange [0:115]
set key left bottom reverse Left samplen 2.5
set xtics 1
if (x_max > 16) { set xtics autofreq }
set style fill transparent solid 0.18 noborder

mine(i, what) = column("curve") == i ? column(what) : NaN

plot 100 with lines dashtype 2 lw 1.2 lc rgb pale title 'ideal', \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "efficiency_lo") * 100):(mine(i - 1, "efficiency_hi") * 100) \
        with filledcurves lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "efficiency_frac") * 100) \
        with linespoints lw 2 pt 7 ps 0.8 lc rgb colour[i] title label[i]
