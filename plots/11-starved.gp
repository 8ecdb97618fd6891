# 11-starved.gp - share of the time in which a GPU had nothing to do while work was ready on the host; above each bar the launches
# of a step.
#
#     gnuplot -e "folder='results/x'" plots/11-starved.gp
name = '11-starved'; width = 1000; height = 500
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

y_max = 0
stats cells using (y_max = known("gpu_starved_frac") > y_max ? known("gpu_starved_frac") : y_max, 1) nooutput
told_most = y_max >= 0.0005 ? sprintf('GPUs starve at most %.3g %% of the time', y_max * 100) : 'No GPU starves'
y_max = y_max < 0.04 ? 0.05 : y_max * 1.2

set title told_most.'; above each bar the launches of a step' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set ylabel 'starved, % of the time' textcolor rgb ink
set yrange [0:y_max * 100]
set xrange [-0.6:(rows > 0 ? rows : 1) - 0.4]
unset key
set grid noxtics
set boxwidth 0.7
set style fill solid 1.0 noborder
set xtics scale 0 font ',9'
if (rows > 6) { set xtics rotate by -40 }
if (!dumb) { set bmargin (rows > 6 ? 8 : 5) }
told(x) = strlen(strcol("launches_per_step")) > 0 ? sprintf('%.3g', column("launches_per_step")) : ''
percent(x) = known("gpu_starved_frac") * 100

plot for [i = 1:series] cells using 0:(of(i, "gpu_starved_frac") * 100) with boxes lc rgb series_colour[i] notitle, \
    cells using 0:(percent(0)):(told(0)) with labels font ',9' textcolor rgb ink offset 0, 0.6 notitle, \
    cells using 0:(NaN):xticlabel(strcol("label")) with points notitle
