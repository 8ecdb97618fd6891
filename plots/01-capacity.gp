# 01-capacity.gp - throughput against engine cores, one curve for each number of API servers.
#
#     gnuplot -e "folder='results/x'" plots/01-capacity.gp
#
# Band: 95 % interval. Ring: the last count of engine cores that helps. Hollow: the host was too busy, no evidence.
# Dashed: what one engine core gives, times their number. Dotted: predicted by closed forms.
name = '01-capacity'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
set datafile separator tab
set datafile columnheaders
curves_count = 0
stats folder.'/plot_curves.tsv' using (curves_count = curves_count + 1, 1) nooutput
width = curves_count > 4 ? 1250 : 900; height = 560
load here.'/style.gp'

points = folder.'/plot_points.csv'
x_max = 1; y_max = 1; predicted = 0
stats points using (x_max = column("cores") > x_max ? column("cores") : x_max, \
    y_max = column("tok_per_s_hi") > y_max ? column("tok_per_s_hi") : y_max, \
    predicted = column("predicted_tok_per_s") > 0 ? 1 : predicted, 1) nooutput

ideal = NaN
do for [i = 1:curves] { if (one[i] == one[i] && !(ideal >= one[i])) { ideal = one[i] } }

if (dumb) {
    set title title_capacity
} else {
    set label 2000 title_capacity at screen 0.5, screen 0.955 center font ',13' textcolor rgb ink noenhanced
    set tmargin 4
}
set xlabel plural textcolor rgb ink
set ylabel 'output tokens/s, thousands' textcolor rgb ink
set xrange [0:x_max * 1.06]
set yrange [0:y_max * 1.12 / 1e3]
set key left top reverse Left samplen 2.5
if (curves > 4) { set key outside right center }
set xtics 1
if (x_max > 16) { set xtics autofreq }
set style fill transparent solid 0.18 noborder

mine(i, what) = column("curve") == i ? column(what) : NaN
solid(i, what) = column("curve") == i && column("evidence") == 1 ? column(what) : NaN
hollow(i, what) = column("curve") == i && column("evidence") == 0 ? column(what) : NaN

plot ideal * x / 1e3 with lines dashtype 2 lw 1.2 lc rgb pale title 'ideal: one engine core times their number', \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "tok_per_s_lo") / 1e3):(mine(i - 1, "tok_per_s_hi") / 1e3) \
        with filledcurves lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "tok_per_s") / 1e3) \
        with lines lw 2 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "predicted_tok_per_s") / 1e3) \
        with lines dashtype 3 lw 1.5 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (solid(i - 1, "cores")):(solid(i - 1, "tok_per_s") / 1e3) \
        with points pt 7 ps 0.8 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (hollow(i - 1, "cores")):(hollow(i - 1, "tok_per_s") / 1e3) \
        with points pt 6 ps 1.0 lc rgb colour[i] notitle, \
    for [i = 1:curves] '+' using (stop_x[i]):(stop_y[i] / 1e3) every ::0::0 \
        with points pt 6 ps 2.2 lw 2 lc rgb colour[i] notitle, \
    NaN with lines dashtype 3 lw 1.5 lc rgb ink title predicted ? 'predicted by closed forms' : '', \
    for [i = 1:curves] NaN with linespoints lw 2 pt 7 ps 0.8 lc rgb colour[i] title label[i].': '.stop[i]
