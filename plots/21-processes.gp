# 21-processes.gp - the processes of one run: how the launcher starts them, two seconds of the window, how it ends them.
#
#     gnuplot -e "folder='results/x'" plots/21-processes.gp
#
# A bar is a process from its start to its end: grey until its main() runs, dark until it is ready, light while it serves, grey
# once it was told to end. Ticks are what launcher and coordinator do. Time is cut out between the three parts. A run in virtual
# time has neither start nor end: all processes are ready when it begins.
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
bars = folder.'/plot_processes.tsv'
marks = folder.'/plot_marks.tsv'
set datafile separator tab
set datafile columnheaders
rows = 0
stats bars using (rows = rows + 1, 1) nooutput
name = '21-processes'; width = 1000; height = 190 + 22 * rows
load here.'/style.gp'
set datafile separator tab

# One colour for each kind of process, dark while it gets ready and light while it serves.
kind(x) = strcol(x) eq 'launcher' ? 1 : strcol(x) eq 'coordinator' ? 2 : strcol(x) eq 'engine_core' ? 3 : 4
array dark[4] = [0x000000, 0xD55E00, 0x0072B2, 0x009E73]
array light[4] = [0xc4c4c4, 0xf3cdb2, 0xb2d3ea, 0xb2dfd2]

serving = NaN; from = NaN; to = NaN; stop = NaN; end = NaN
array process[64]
do for [i = 1:64] { process[i] = '' }
stats bars using (process[int(column("row")) + 1] = strcol("process"), serving = known("serving_s"), from = known("piece_from_s"), \
    to = known("piece_to_s"), stop = known("first_stop_s"), end = known("done_s"), 1) nooutput
title = ''
stats bars using (title = strcol("title"), 1) nooutput
virtual = !(serving == serving) && !(stop == stop) && from == from
if (!(serving == serving)) { serving = end == end ? end : 1 }
if (!(end > stop)) { end = stop + 0.001 }

waves = 0
stats marks using (waves = waves + (int(column("what")) == 4), 1) nooutput

# Some three to five round numbers on an axis.
ten(span) = 10 ** floor(log10(span / 3.0))
step(span) = span / ten(span) < 5 ? ten(span) : span / ten(span) < 10 ? 2 * ten(span) : 5 * ten(span)

# A part of a bar within a panel, from a to b in its unit.
low(a, x0) = a > x0 ? a : x0
high(b, x1) = b < x1 ? b : x1
or_else(a, b) = a == a ? a : b
ms(what) = known(what) * 1e3
row(x) = column("row")
deep(x) = dark[kind("kind")]
faint(x) = light[kind("kind")]
half = 0.36

# The mark's time if it is one of `what` and inside the panel.
mark(what, x0, x1, scale) = int(column("what")) == what && column("from_s") * scale >= x0 && column("from_s") * scale <= x1 ? \
    column("from_s") * scale : NaN

wave(x0, x1) = int(column("what")) == 4 && column("to_s") > x0 && column("from_s") < x1 ? \
    box(low(column("from_s"), x0), high(column("to_s"), x1)) : NaN
ending(what) = int(column("what")) == what && column("from_s") >= stop ? (column("from_s") - stop) * 1e3 : NaN

set yrange [rows - 0.4:-0.6]
set ytics scale 0 font ',9'
do for [i = 1:rows] { set ytics add (process[i] i - 1) }
set grid noytics
set border 1
set lmargin 0
set rmargin 0
unset label 1000
unset key
panels = stop == stop ? 3 : from == from ? 2 : 1
left = dumb ? 0.16 : 0.135
right = 0.985
gap = 0.025
top = dumb ? 0.84 : 1 - 72.0 / height
bottom = dumb ? 0.12 : 66.0 / height
unit = (right - left - (panels - 1) * gap) / (panels == 3 ? 1.0 : panels == 2 ? 0.76 : 0.42)
edge(i) = i == 0 || virtual ? left : i == 1 ? left + 0.42 * unit + gap : left + 0.76 * unit + 2 * gap
stretch(i) = virtual ? right - left : i == 0 ? 0.42 * unit : i == 1 ? 0.34 * unit : 0.24 * unit

set multiplot
if (dumb) {
    set label 1 title at screen 0.02, screen 0.97 left
} else {
    set label 1 title at screen 0.5, screen 1 - 16.0 / height center font ',13' textcolor rgb ink noenhanced
    array words[8] = ['starts, or was told to end', 'gets ready', 'serves', 'takes part in a wave', 'launcher starts or ends a process', \
        'hears of it, answers', 'coordinator publishes changed counts', 'publishes nothing new']
    array shade[8] = [0xe4e4e4, dark[3], light[3], 0xCC79A7, 0xE69F00, 0x56B4E9, 0xD55E00, 0x8a8a8a]
    do for [line = 0:1] {
        at = left
        do for [i = 4 * line + 1:4 * line + 4] {
            if ((i != 4 || waves > 0) && (!virtual || i == 3 || i == 4 || i > 6)) {
                set label 10 + i words[i] at screen at, screen 1 - (38.0 + 15 * line) / height left point pt 5 ps 0.8 lc rgb shade[i] \
                    offset 0.8, 0 font ',9' textcolor rgb ink noenhanced
                at = at + (strlen(words[i]) * 6.1 + 34) / width
            }
        }
    }
    set label 1000 provenance at screen 0.01, screen 8.0 / height left font ',8' textcolor rgb pale noenhanced
}

# Start.
x0 = 0; x1 = serving * 1e3 * 1.06
set lmargin at screen edge(0)
set rmargin at screen edge(0) + stretch(0)
set tmargin at screen top
set bmargin at screen bottom
set xrange [x0:x1]
set xtics step(x1 - x0)
set xlabel (dumb ? 'start, ms' : 'start: ms since the launcher was started') textcolor rgb ink
set arrow 1 from serving * 1e3, graph 0 to serving * 1e3, graph 1 nohead dt 3 lc rgb pale back
box(a, b) = b > a ? (a + b) / 2.0 : NaN
begin(what) = low(or_else(ms(what), x1), x0)
until(what) = high(or_else(ms(what), x1), x1)
if (!virtual) {
    plot bars using (box(begin("spawned_s"), until("started_s"))):(row(0)):(begin("spawned_s")):(until("started_s")):(row(0) - half):(row(0) + half) \
    with boxxyerror lc rgb '#e4e4e4' fs solid notitle, \
    bars using (box(begin("started_s"), until("ready_s"))):(row(0)):(begin("started_s")):(until("ready_s")):(row(0) - half):(row(0) + half):(deep(0)) \
    with boxxyerror lc rgb variable fs solid notitle, \
    bars using (box(begin("ready_s"), x1)):(row(0)):(begin("ready_s")):(x1):(row(0) - half):(row(0) + half):(faint(0)) \
    with boxxyerror lc rgb variable fs solid notitle, \
    marks using (mark(1, x0, x1, 1e3)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#56B4E9' notitle, \
    marks using (mark(0, x0, x1, 1e3)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#E69F00' notitle
    unset label
    unset ytics
}
unset arrow 1

# A piece of the window.
if (panels > 1) {
    x0 = from; x1 = to
    set lmargin at screen edge(1)
    set rmargin at screen edge(1) + stretch(1)
    set xrange [x0:x1]
    set xtics step(x1 - x0)
    set xlabel (dumb ? 'window, s' : virtual ? 'part of the window: s of virtual time' : 'part of the window: s since the same') textcolor rgb ink
    plot bars using (box(x0, x1)):(row(0)):(x0):(x1):(row(0) - half):(row(0) + half):(faint(0)) \
        with boxxyerror lc rgb variable fs solid notitle, \
        marks using (wave(x0, x1)):(row(0)):(low(column("from_s"), x0)):(high(column("to_s"), x1)):(row(0) - half):(row(0) + half) \
        with boxxyerror lc rgb '#CC79A7' fs solid notitle, \
        marks using (mark(5, x0, x1, 1)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#CC79A7' notitle, \
        marks using (mark(3, x0, x1, 1)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#8a8a8a' notitle, \
        marks using (mark(2, x0, x1, 1)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#D55E00' notitle
}

# End.
if (panels > 2) {
    x0 = -0.08 * (end - stop) * 1e3; x1 = (end - stop) * 1e3 * 1.08
    since(what) = high((or_else(known(what), end) - stop) * 1e3, x1)
    set lmargin at screen edge(2)
    set rmargin at screen edge(2) + stretch(2)
    set xrange [x0:x1]
    set xtics step(x1 - x0)
    set xlabel (dumb ? 'end, ms' : 'end: ms since the first signal') textcolor rgb ink
    plot bars using (box(x0, since("stop_s"))):(row(0)):(x0):(since("stop_s")):(row(0) - half):(row(0) + half):(faint(0)) \
        with boxxyerror lc rgb variable fs solid notitle, \
        bars using (box(since("stop_s"), since("ended_s"))):(row(0)):(since("stop_s")):(since("ended_s")):(row(0) - half):(row(0) + half) \
        with boxxyerror lc rgb '#e4e4e4' fs solid notitle, \
        marks using (ending(1)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#56B4E9' notitle, \
        marks using (ending(0)):(row(0) - 0.46):(0):(0.92) with vectors nohead lw 2 lc rgb '#E69F00' notitle
}
unset multiplot
