# 20-predicted.gp - measured throughput against what closed forms predicted before anything ran.
#
#     gnuplot -e "folder='results/x'" plots/20-predicted.gp
#
# Band: within 10 % of the prediction. Hollow: the host was too busy, no evidence.
name = '20-predicted'; width = 900; height = 560
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'

points = folder.'/plot_points.csv'
most = 0
greater(a, b) = a > b ? a : b
stats points using (most = greater(known("predicted_tok_per_s"), greater(known("tok_per_s"), most)), 1) nooutput

set title 'Measured against predicted throughput' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'predicted output tokens/s, thousands' textcolor rgb ink
set ylabel 'measured output tokens/s, thousands' textcolor rgb ink
set xrange [0:most > 0 ? most * 1.06 / 1e3 : 1]
set yrange [0:most > 0 ? most * 1.12 / 1e3 : 1]
set key left top reverse Left samplen 2.5
set style fill transparent solid 0.12 noborder

predicted(i) = column("curve") == i ? known("predicted_tok_per_s") / 1e3 : NaN
measured(i, evidence) = column("curve") == i && column("evidence") == evidence ? column("tok_per_s") / 1e3 : NaN

plot '+' using 1:($1 * 0.9):($1 * 1.1) with filledcurves lc rgb pale title 'within 10 %', \
    x with lines dashtype 2 lw 1.2 lc rgb pale title 'as predicted', \
    for [i = 1:curves] points using (predicted(i - 1)):(measured(i - 1, 1)) with points pt 7 ps 1.0 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (predicted(i - 1)):(measured(i - 1, 0)) with points pt 6 ps 1.1 lc rgb colour[i] notitle, \
    for [i = 1:curves] NaN with points pt 7 ps 1.0 lc rgb colour[i] title label[i]
