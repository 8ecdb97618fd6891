# style.gp - what all figures share; loaded by each script. Wants `name` (of the figure), `width` and `height`.
#
# Variables for the command line: folder='results/x' (default: the working directory), format='svg' | 'png' | 'dumb'.
# The palette is Okabe and Ito's, which people with any colour vision tell apart; a topology has the same colour everywhere.

if (!exists("folder")) folder = '.'
if (!exists("format")) format = 'svg'
dumb = format eq 'dumb'

set encoding utf8
set datafile separator tab # texts: a quoted field with a comma in it would be cut
set datafile columnheaders
set datafile missing NaN

if (dumb) {
    set terminal dumb mono size 110, 34 noenhanced
    set output folder.'/figures/'.name.'.txt'
} else {
    if (format eq 'png') {
        set terminal pngcairo size 2*width, 2*height font 'DejaVu Sans,11' fontscale 2 linewidth 2 pointscale 2 noenhanced background rgb '#ffffff'
        set output folder.'/figures/'.name.'.png'
    } else {
        set terminal svg size width, height font 'DejaVu Sans,11' noenhanced background rgb '#ffffff'
        set output folder.'/figures/'.name.'.svg'
    }
}

array colours[7] = [0x0072B2, 0xD55E00, 0x009E73, 0xCC79A7, 0xE69F00, 0x56B4E9, 0x000000]
ink  = '#303030'
pale = '#8a8a8a'

set border 3 lc rgb pale
set tics nomirror textcolor rgb ink
set grid back lc rgb '#e6e6e6' lt 1 lw 0.6
set style fill solid noborder
set key textcolor rgb ink noenhanced

# What the figure is about: one row of texts.
scenario = ''; noun = ''; plural = ''; provenance = ''
title_capacity = ''; title_efficiency = ''; title_launch = ''; title_timeline = ''
window_start = 0; window_end = 0
stats folder.'/plot_about.tsv' using (scenario = strcol("scenario"), noun = strcol("noun"), plural = strcol("plural"), \
    provenance = strcol("provenance"), title_capacity = strcol("title_capacity"), \
    title_efficiency = strcol("title_efficiency"), title_launch = strcol("title_launch"), \
    title_timeline = strcol("title_timeline"), window_start = column("window_start_s"), \
    window_end = column("window_end_s"), 1) nooutput

# The curves: label, colour, and where more stops helping.
curves = 0
array label[256]; array colour[256]; array stop_x[256]; array stop_y[256]; array stop[256]; array one[256]
known(x) = strlen(strcol(x)) > 0 ? column(x) : NaN
stats folder.'/plot_curves.tsv' using (curves = curves < 256 ? curves + 1 : curves, label[curves] = strcol("label"), \
    colour[curves] = colours[int(column("colour")) % 7 + 1], stop[curves] = strcol("answer"), \
    stop_x[curves] = known("last_helpful_cores"), stop_y[curves] = known("last_helpful_tok_per_s"), \
    one[curves] = known("one_core_tok_per_s"), 1) nooutput
if (curves == 0) { label[1] = 'no data'; colour[1] = colours[7]; stop[1] = ''; stop_x[1] = NaN; stop_y[1] = NaN; one[1] = NaN }
set datafile separator ','

if (dumb) {
    unset grid
} else {
    set label 1000 provenance at character 1, character 0.7 left font ',8' textcolor rgb pale noenhanced
    set bmargin 5
}
