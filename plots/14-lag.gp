# 14-lag.gp - how late the load client sent its requests, run by run.
#
#     gnuplot -e "folder='results/x'" plots/14-lag.gp
#
# Hollow: a run that is no evidence. Closed loops have no schedule and no lag.
name = '14-lag'; width = 900; height = 460
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'
set datafile separator tab
runs = folder.'/plot_runs.tsv'

x_max = 0; y_max = 1
stats runs using (x_max = column("order_index") > x_max ? column("order_index") : x_max, \
    y_max = known("lag_max_ms") > y_max ? known("lag_max_ms") : y_max, 1) nooutput
sound(what) = column("valid") == 1 ? known(what) : NaN
broken(what) = column("valid") == 0 ? known(what) : NaN

set title 'How late the load client sent' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'run, in the order of running' textcolor rgb ink
set ylabel 'sent after the schedule, ms' textcolor rgb ink
set logscale y
set format y '%g'
set xrange [-0.5:x_max + 0.5]
set yrange [0.001:y_max * 3]
set key top left horizontal samplen 1.5
if (x_max < 20) { set xtics 1 }

plot 1 with lines dashtype 2 lw 1.2 lc rgb pale title '1 ms', \
    runs using (column("order_index")):(sound("lag_max_ms")) with points pt 9 ps 0.8 lc rgb '#D55E00' title 'greatest', \
    runs using (column("order_index")):(sound("lag_p99_ms")) with points pt 7 ps 0.8 lc rgb '#0072B2' title 'p99', \
    runs using (column("order_index")):(sound("lag_p50_ms")) with points pt 5 ps 0.7 lc rgb '#009E73' title 'p50', \
    runs using (column("order_index")):(broken("lag_max_ms")) with points pt 8 ps 0.8 lc rgb '#D55E00' notitle, \
    runs using (column("order_index")):(broken("lag_p99_ms")) with points pt 6 ps 0.8 lc rgb '#0072B2' notitle, \
    runs using (column("order_index")):(broken("lag_p50_ms")) with points pt 4 ps 0.7 lc rgb '#009E73' notitle
