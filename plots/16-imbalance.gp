# 16-imbalance.gp - tokens of the busiest engine core and the busiest API server over their fair share, for each cell.
#
#     gnuplot -e "folder='results/x'" plots/16-imbalance.gp
name = '16-imbalance'; width = 1000; height = 480
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/cells.gp'

y_max = 1.4
greater(a, b) = a > b ? a : b
stats cells using (y_max = greater(known("api_peak") * 1.1, greater(known("engine_peak") * 1.1, y_max)), 1) nooutput

set title 'Share of the busiest over the fair share; dashed: 1.25' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set ylabel 'busiest / mean' textcolor rgb ink
set yrange [0.9:y_max]
set xrange [-0.6:(rows > 0 ? rows : 1) - 0.4]
set grid noxtics
set key top left horizontal samplen 1.5
set xtics scale 0 font ',9'
if (rows > 6) { set xtics rotate by -40 }
if (!dumb) { set bmargin (rows > 6 ? 8 : 5) }

plot 1 with lines lw 1 lc rgb pale notitle, \
    1.25 with lines dashtype 2 lw 1.2 lc rgb pale notitle, \
    cells using (column(0) - 0.12):(known("engine_peak")) with points pt 7 ps 0.9 lc rgb '#0072B2' title 'engine cores', \
    cells using (column(0) + 0.12):(known("api_peak")) with points pt 5 ps 0.8 lc rgb '#D55E00' title 'API servers', \
    cells using 0:(NaN):xticlabel(strcol("label")) with points notitle
