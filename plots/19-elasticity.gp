# 19-elasticity.gp - which share of its own slow-down each stage that was slowed on purpose costs in throughput; below each bar what
# was observed before, and what the slow-down showed.
#
#     gnuplot -e "folder='results/x'" plots/19-elasticity.gp
#
# Whiskers: 95 % interval. At 1 the stage limits alone, at 0 it waits; from 0.5 on it counts as the limit.
name = '19-elasticity'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
bars = folder.'/plot_probe.tsv'
set datafile separator tab
set datafile columnheaders
rows = 0
stats bars using (rows = rows + 1, 1) nooutput
width = rows > 3 ? 1250 : 900; height = 520
load here.'/style.gp'
if (dumb && rows > 3) { # room for the words below the bars
    set terminal dumb mono size 40 + 22 * rows, 34 noenhanced
    set output folder.'/figures/'.name.'.txt'
}
set datafile separator tab

array stage[7] = ['api_server', 'gpu', 'scheduler', 'launch', 'ipc', 'coordinator', 'client']
array said[7] = ['API server', 'GPU', 'engine core', 'launching worker', 'engine core I/O', 'coordinator', 'load client']
array tint[7] = [0xD55E00, 0x009E73, 0x0072B2, 0xCC79A7, 0x56B4E9, 0x8a8a8a, 0xE69F00]

greater(a, b) = a > b ? a : b
smaller(a, b) = a < b || b != b ? a : b
cell = ''; slower = 0; rows = 0
least = 0; most = 1
array named[8]; array observed[8]; array found[8]; array agreed[8]
stats bars using (rows = rows < 8 ? rows + 1 : rows, named[rows] = strcol("stage"), observed[rows] = strcol("observed"), \
    found[rows] = strcol("found"), agreed[rows] = strcol("agreement"), cell = strcol("cell"), slower = column("slower_frac"), \
    least = smaller(known("elasticity"), smaller(known("elasticity_lo"), least)), \
    most = greater(known("elasticity"), greater(known("elasticity_hi"), most)), 1) nooutput
do for [i = 1:rows] {
    do for [k = 1:7] { if (named[i] eq stage[k]) { named[i] = said[k] } }
}

set title sprintf('%s: what a stage that is %g %% slower costs in throughput', cell, slower * 100) noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set ylabel 'elasticity: share of the slow-down' textcolor rgb ink
set xrange [-0.6:(rows > 0 ? rows : 1) - 0.4]
set yrange [least - 0.15:most + 0.2]
set grid noxtics
unset xtics
unset key
set border 2
set boxwidth 0.5
set lmargin (dumb ? 20 : 15)
set rmargin 17
set bmargin (dumb ? 5 : 9)

# What was observed beside what was found, as lines of a table below the bars.
step = dumb ? 1.0 : 1.5
do for [i = 1:rows] {
    set label 100 + i named[i] at first i - 1, graph 0 center offset 0, -1 * step font ',11' textcolor rgb ink noenhanced
    set label 110 + i observed[i] at first i - 1, graph 0 center offset 0, -2 * step font ',10' textcolor rgb ink noenhanced
    set label 120 + i found[i] at first i - 1, graph 0 center offset 0, -3 * step font ',10' textcolor rgb ink noenhanced
    set label 130 + i agreed[i] at first i - 1, graph 0 center offset 0, -4 * step font ',10' \
        textcolor rgb (agreed[i] eq 'contradicted' ? '#D55E00' : ink) noenhanced
}
set label 140 'observed' at graph 0, graph 0 right offset -1, -2 * step font ',10' textcolor rgb pale noenhanced
set label 141 'slowed on purpose' at graph 0, graph 0 right offset -1, -3 * step font ',10' textcolor rgb pale noenhanced
set label 150 'limits alone' at graph 1, first 1 left offset 1, 0 font ',10' textcolor rgb pale noenhanced
set label 151 'half: it limits' at graph 1, first 0.5 left offset 1, 0 font ',10' textcolor rgb pale noenhanced
set label 152 'waits' at graph 1, first 0 left offset 1, 0 font ',10' textcolor rgb pale noenhanced

share(k) = strcol("stage") eq stage[k] ? known("elasticity") : NaN
top(x) = greater(0, greater(known("elasticity_hi"), known("elasticity")))
told(x) = strlen(strcol("elasticity")) > 0 ? sprintf('%.2f', column("elasticity")) : ''

plot for [k = 1:7] bars using 0:(share(k)) with boxes fill solid 0.75 noborder lc rgb tint[k] notitle, \
    1 with lines dashtype 2 lw 1.2 lc rgb pale notitle, \
    0.5 with lines dashtype 2 lw 1.2 lc rgb pale notitle, \
    0 with lines lw 1.2 lc rgb pale notitle, \
    bars using 0:(known("elasticity_lo")):(0):(known("elasticity_hi") - known("elasticity_lo")) with vectors heads size screen 0.006, 90 lw 1.4 lc rgb ink notitle, \
    bars using 0:(known("elasticity") == known("elasticity") ? top(0) : NaN):(told(0)) with labels font ',11' textcolor rgb ink offset 0, 0.8 notitle
