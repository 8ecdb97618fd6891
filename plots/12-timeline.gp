# 12-timeline.gp - one run, second by second: tokens, requests offered, sent and done, and requests in flight.
#
#     gnuplot -e "folder='results/x'" plots/12-timeline.gp
#
# Grey: warm-up and drain. White: the window that is measured.
name = '12-timeline'; width = 900; height = 640
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'

seconds = folder.'/plot_timeline.csv'
x_max = 1; tokens_max = 1; requests_max = 1; inflight_max = 1
greater(a, b) = a > b ? a : b
stats seconds using (x_max = greater(column("at_s"), x_max), tokens_max = greater(column("output_tok_per_s"), tokens_max), \
    requests_max = greater(greater(column("sent_per_s"), column("done_per_s")), greater(column("offered_per_s"), requests_max)), \
    inflight_max = greater(column("inflight"), inflight_max), 1) nooutput

set xrange [0:x_max]
set style rectangle fc rgb '#efefef' fs solid noborder
unset label 1000
set object 1 rectangle from first 0, graph 0 to first window_start, graph 1 behind
if (window_end > 0 && window_end < x_max) { set object 2 rectangle from first window_end, graph 0 to first x_max, graph 1 behind }
set lmargin 10
set rmargin 4
set key top right horizontal samplen 2 font ',9'

set multiplot layout 3, 1 margins 0.09, 0.98, (dumb ? 0.10 : 0.12), 0.92 spacing 0.0, 0.06
set title title_timeline noenhanced textcolor rgb ink font ',13' offset 0, -0.2
set format x ''
set ylabel 'thousand tokens/s' textcolor rgb ink
set yrange [0:tokens_max * 1.25 / 1e3]
plot seconds using (column("at_s") - 0.5):(column("output_tok_per_s") / 1e3) with linespoints lw 2 pt 7 ps 0.5 lc rgb '#0072B2' title 'output tokens'
unset title
set ylabel 'requests/s' textcolor rgb ink
set yrange [0:requests_max * 1.35]
plot seconds using (column("at_s") - 0.5):(column("offered_per_s")) with lines lw 4 lc rgb '#d0d0d0' title 'offered', \
    seconds using (column("at_s") - 0.5):(column("sent_per_s")) with linespoints lw 1.6 pt 7 ps 0.5 lc rgb '#E69F00' title 'sent', \
    seconds using (column("at_s") - 0.5):(column("done_per_s")) with linespoints lw 1.6 pt 7 ps 0.5 lc rgb '#009E73' title 'done'
set format x '%g'
set xlabel 's since the load began' textcolor rgb ink
set ylabel 'requests' textcolor rgb ink
set yrange [0:inflight_max * 1.35]
if (!dumb) { set label 1000 provenance at screen 0.01, screen 0.018 left font ',8' textcolor rgb pale noenhanced }
plot seconds using (column("at_s")):(column("inflight")) with linespoints lw 1.6 pt 7 ps 0.5 lc rgb '#CC79A7' title 'in flight'
unset multiplot
