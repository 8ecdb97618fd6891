# 20-predicted.gp - measured throughput against what closed forms, and simulated runs, predicted before anything ran.
#
#     gnuplot -e "folder='results/x'" plots/20-predicted.gp
#
# Band: within 10 % of the prediction. Hollow: the host was too busy, no evidence. Triangles: predicted by simulated runs. Where
# nothing was measured, what was simulated is drawn in its place.
name = '20-predicted'; width = 900; height = 560
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'

points = folder.'/plot_points.csv'
most = 0
greater(a, b) = a > b ? a : b
stats points using (most = greater(known("predicted_tok_per_s"), greater(known("tok_per_s"), most)), 1) nooutput
verb = 'measured'; compared = 0
set datafile separator tab
stats folder.'/plot_about.tsv' using (verb = strcol("verb") eq 'simulated' ? 'simulated' : 'measured', 1) nooutput
set datafile separator ','
stats points using (compared = column("simulated_known") == 1 ? 1 : compared, 1) nooutput

set title (verb eq 'measured' ? 'Measured' : 'Simulated').' against predicted throughput' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'predicted output tokens/s, thousands' textcolor rgb ink
set ylabel verb.' output tokens/s, thousands' textcolor rgb ink
set xrange [0:most > 0 ? most * 1.06 / 1e3 : 1]
set yrange [0:most > 0 ? most * 1.12 / 1e3 : 1]
set key left top reverse Left samplen 2.5
set style fill transparent solid 0.12 noborder

predicted(i) = column("curve") == i ? known("predicted_tok_per_s") / 1e3 : NaN
simulated(i) = column("curve") == i && column("simulated_known") == 1 ? known("simulated_tok_per_s") / 1e3 : NaN
measured(i, evidence) = column("curve") == i && column("evidence") == evidence ? column("tok_per_s") / 1e3 : NaN

plot '+' using 1:($1 * 0.9):($1 * 1.1) with filledcurves lc rgb pale title 'within 10 %', \
    x with lines dashtype 2 lw 1.2 lc rgb pale title 'as predicted', \
    for [i = 1:curves] points using (predicted(i - 1)):(measured(i - 1, 1)) with points pt 7 ps 1.0 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (predicted(i - 1)):(measured(i - 1, 0)) with points pt 6 ps 1.1 lc rgb colour[i] notitle, \
    for [i = 1:compared ? curves : 0] points using (simulated(i - 1)):(column("tok_per_s") / 1e3) with points pt 8 ps 1.1 lc rgb colour[i] notitle, \
    for [i = 1:curves] NaN with points pt 7 ps 1.0 lc rgb colour[i] title label[i], \
    for [i = 1:compared] NaN with points pt 8 ps 1.1 lc rgb ink title 'predicted by simulated runs'
