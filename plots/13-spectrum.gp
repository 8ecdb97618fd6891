# 13-spectrum.gp - the whole distribution of two latencies of the cell with the greatest rate, from when a request was due
# and from when it was sent.
#
#     gnuplot -e "folder='results/x'" plots/13-spectrum.gp
#
# To the right the requests become rarer: at p99 one of 100 takes at least as long. Where dashed and solid part, requests
# waited before they were sent, which a clock that starts then does not see.
name = '13-spectrum'; width = 900; height = 520
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'
set datafile separator tab
spectrum = folder.'/plot_spectrum.tsv'

x_max = 10; y_max = 0; y_min = NaN; cell = ''
stats spectrum using (x_max = column("one_of") > x_max ? column("one_of") : x_max, y_max = column("ms") > y_max ? column("ms") : y_max, \
    y_min = column("ms") > 0 && !(column("ms") >= y_min) ? column("ms") : y_min, cell = strcol("cell"), 1) nooutput
mine(metric, what) = strcol("metric") eq metric ? column(what) : NaN

set title 'Latency spectrum'.(cell eq 'single' || cell eq '' ? '' : ' of '.cell) noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel 'percentile' textcolor rgb ink
set ylabel 'ms' textcolor rgb ink
set logscale x
set logscale y
set xrange [1:x_max * 1.3]
set yrange [(y_min > 0 ? y_min * 0.7 : 0.1):(y_max > 0 ? y_max * 1.6 : 10)]
set xtics ('p0' 1, 'p50' 2, 'p75' 4, 'p90' 10, 'p99' 100, 'p99.9' 1000, 'p99.99' 10000, 'p99.999' 100000)
set key top left reverse Left samplen 3

plot spectrum using (mine("e2el_sched", "one_of")):(mine("e2el_sched", "ms")) with steps lw 2 lc rgb '#0072B2' title 'to last token, from the schedule', \
    spectrum using (mine("e2el", "one_of")):(mine("e2el", "ms")) with steps dashtype 2 lw 1.6 lc rgb '#0072B2' title 'from sending', \
    spectrum using (mine("ttft_sched", "one_of")):(mine("ttft_sched", "ms")) with steps lw 2 lc rgb '#D55E00' title 'to first token, from the schedule', \
    spectrum using (mine("ttft", "one_of")):(mine("ttft", "ms")) with steps dashtype 2 lw 1.6 lc rgb '#D55E00' title 'from sending'
