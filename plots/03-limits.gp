# 03-limits.gp - throughput of each cell and the letter of the stage that limits it.
#
#     gnuplot -e "folder='results/x'" plots/03-limits.gp
name = '03-limits'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }

if (!exists("folder")) folder = '.'
set datafile separator ','
set datafile columnheaders
points = folder.'/plot_points.csv'
rows = 1; columns = 1; y_max = 0
stats points using (rows = column("curve") + 1 > rows ? column("curve") + 1 : rows, \
    columns = column("place") + 1 > columns ? column("place") + 1 : columns, \
    y_max = column("tok_per_s") > y_max ? column("tok_per_s") : y_max, 1) nooutput
width = 900; height = int(220 + (rows < 14 ? rows : 14) * 62)
load here.'/style.gp'

set title 'Which stage limits, and thousand output tokens/s' noenhanced textcolor rgb ink font ',13' offset 0, 0.3
set xlabel plural textcolor rgb ink
unset ylabel
unset grid
unset key
set border 0
set tics scale 0
set xrange [-0.5:columns - 0.5]
set yrange [-0.5:rows - 0.5]
set cbrange [0:(y_max > 0 ? y_max / 1e3 : 1)]
set cblabel 'thousand tokens/s' textcolor rgb ink
set palette defined (0 '#f7fbff', 0.5 '#b9d9ee', 1 '#56b4e9')
set style fill solid 1.0 border lc rgb '#ffffff'
set boxwidth 1
set ytics ()
do for [i = 1:curves] { set ytics add (label[i] i - 1) }
set xtics ()
if (!dumb) {
    set bmargin 7
    set label 1001 'A  API server     G  GPU     E  engine core     L  launching worker     I  engine core I/O     C  coordinator     M  several     ?  none is full' \
        at graph 0.5, character 3.0 center font ',9' textcolor rgb ink noenhanced
}
tight = columns > 9
amount(x) = sprintf(tight ? '%.3g' : '%.1f k', column("tok_per_s") / 1e3)
letter(x) = column("evidence") == 1 ? strcol("letter") : strcol("letter").' (host)'

plot points using (column("place")):(column("curve")):(column("tok_per_s") / 1e3) with image pixels notitle, \
    points using (column("place")):(column("curve") + 0.12):(letter(0)) with labels font ',15' textcolor rgb ink notitle, \
    points using (column("place")):(column("curve") - 0.24):(amount(0)) with labels font (tight ? ',8' : ',9') textcolor rgb ink notitle, \
    points using (column("place")):(NaN):xticlabel(strcol("cores")) with points notitle
