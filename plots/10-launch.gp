# 10-launch.gp - how the threads that launch kernels spend their time, a bar for each cell.
#
#     gnuplot -e "folder='results/x'" plots/10-launch.gp
name = '10-launch'; width = 1000; height = 520
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
load here.'/style.gp'

bars = folder.'/plot_launch.csv'
count = 0
stats bars using (count = count + 1, 1) nooutput

if (dumb) {
    set title title_launch
    set key outside top center horizontal
} else {
    set label 2000 title_launch at screen 0.5, screen 0.95 center font ',13' textcolor rgb ink noenhanced
    set tmargin 6.5
    set bmargin (count > 6 ? 8 : 5)
    set key at screen 0.5, screen 0.91 center top horizontal reverse Left samplen 1.2
}
set ylabel 'share of a launching thread''s time, %' textcolor rgb ink
set yrange [0:100]
set xrange [-0.6:(count > 0 ? count : 1) - 0.4]
set grid noxtics
set style data histograms
set style histogram rowstacked
set style fill solid 1.0 border lc rgb '#ffffff'
set boxwidth 0.82
set xtics scale 0 font ',9'
if (count > 6) { set xtics rotate by -40 }

percent(what) = column(what) * 100
plot bars using (percent("prepare_frac")):xticlabel(strcol("cell")) lc rgb '#E69F00' title 'preparing', \
    bars using (percent("launch_frac")) lc rgb '#D55E00' title 'launching', \
    bars using (percent("queue_full_frac")) lc rgb '#000000' title 'device queue full', \
    bars using (percent("other_frac")) lc rgb '#0072B2' title 'scheduling, messages', \
    bars using (percent("sync_wait_frac")) lc rgb '#56B4E9' title 'waiting for results', \
    bars using (percent("idle_frac")) lc rgb '#dcdcdc' title 'idle'
