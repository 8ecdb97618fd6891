# 09-ceilings.gp - at which throughput each stage would be full, beside what was measured; a panel for the last cell of each curve.
#
#     gnuplot -e "folder='results/x'" plots/09-ceilings.gp
#
# Full colour: the lowest ceiling. Half: the next one. Light: the others. Whiskers: 95 % interval. Level line: what was measured.
name = '09-ceilings'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
bars = folder.'/plot_ceilings.tsv'
set datafile separator tab
set datafile columnheaders
panels = 0
stats bars using (panels = column("panel") >= panels ? int(column("panel")) + 1 : panels, 1) nooutput
panels = panels < 1 ? 1 : (panels > 6 ? 6 : panels)
across = panels > 3 ? int((panels + 1) / 2) : panels
down = panels > 3 ? 2 : 1
width = 1000; height = down > 1 ? 840 : 500
load here.'/style.gp'
set datafile separator tab

array stage[7] = ['api_server', 'gpu', 'scheduler', 'launch', 'ipc', 'coordinator', 'client']
array said[7] = ['API server', 'GPU', 'engine core', 'launching worker', 'engine core I/O', 'coordinator', 'load client']
array letter[7] = ['A', 'G', 'E', 'L', 'I', 'C', 'load']
array tint[7] = [0xD55E00, 0x009E73, 0x0072B2, 0xCC79A7, 0x56B4E9, 0x8a8a8a, 0xE69F00]

verb = 'measured'
stats folder.'/plot_about.tsv' using (verb = strcol("verb") eq 'simulated' ? 'simulated' : 'measured', 1) nooutput

amount(x) = x >= 999500 ? sprintf('%.3g M', x / 1e6) : x >= 999.5 ? sprintf('%.3g k', x / 1e3) : sprintf('%.3g', x)
greater(a, b) = a > b ? a : b
smaller(a, b) = a < b || b != b ? a : b
# Where a bar with its interval ends; an interval that is all but open above does not count.
high(x) = known("ceiling_tok_per_s_hi") < 100 * known("ceiling_tok_per_s") ? known("ceiling_tok_per_s_hi") : known("ceiling_tok_per_s")
array title_of[6]; array rate[6]
do for [i = 1:6] { title_of[i] = 'no data'; rate[i] = NaN }
least = NaN; most = NaN
stats bars using (k = int(column("panel")) + 1, k <= 6 ? (title_of[k] = strcol("title"), rate[k] = known("tok_per_s"), \
    least = smaller(known("ceiling_tok_per_s"), smaller(rate[k], least)), most = greater(high(0), greater(most, rate[k])), 1) : 1) nooutput

# The same place for a stage in all panels; only stages that were observed.
array slot[7]
slots = 0
set xtics ()
do for [k = 1:7] {
    seen = 0
    stats bars using (seen = strcol("stage") eq stage[k] && int(column("panel")) < 6 ? 1 : seen, 1) nooutput
    slot[k] = seen ? slots : NaN
    if (seen) {
        set xtics add ((dumb ? letter[k] : said[k]) slots)
        slots = slots + 1
    }
}

set xrange [(dumb ? -1.2 : -0.6):(slots > 0 ? slots : 1) - 0.4]
set logscale y
set yrange [(least > 0 ? least / 3 : 1):(most > 0 ? most * 8 : 10)]
set format y '%.0s%c'
set ylabel 'output tokens/s' textcolor rgb ink offset 0.5, 0
unset key
unset label 1000
set grid noxtics
set boxwidth 0.7
set xtics scale 0 font ',9'
if (!dumb) {
    set xtics rotate by -40
    set label 1000 provenance at screen 0.01, screen (down > 1 ? 0.012 : 0.022) left font ',8' textcolor rgb pale noenhanced
}
set label 2020 'Ceiling of each stage; the line is what was '.verb.' with all of them' at screen 0.5, screen 0.955 center \
    font ',13' textcolor rgb ink noenhanced

bar(i, k, place) = int(column("panel")) + 1 == i && int(column("place")) == place && strcol("stage") eq stage[k] ? \
    known("ceiling_tok_per_s") : NaN
of(i, k, what) = int(column("panel")) + 1 == i && strcol("stage") eq stage[k] ? known(what) : NaN
top(i, k) = of(i, k, "ceiling_tok_per_s") > 0 ? high(0) : NaN
standing(x) = int(column("place")) == 2 ? "\nlowest" : int(column("place")) == 1 ? "\nnext" : ''
told(x) = strlen(strcol("ceiling_tok_per_s")) > 0 ? amount(column("ceiling_tok_per_s")).standing(0) : ''

set multiplot layout down, across margins 0.08, 0.955, (dumb ? 0.12 : (down > 1 ? 0.15 : 0.26)), (down > 1 ? 0.87 : 0.82) spacing 0.05, 0.18
do for [i = 1:panels] {
    set title title_of[i].(rate[i] == rate[i] ? "\n".verb.': '.amount(rate[i]).' tokens/s' : '') noenhanced textcolor rgb ink font ',11' offset 0, -0.4
    plot for [k = 1:7] bars using (slot[k]):(bar(i, k, 0)) with boxes fill solid 0.18 noborder lc rgb tint[k] notitle, \
        for [k = 1:7] bars using (slot[k]):(bar(i, k, 1)) with boxes fill solid 0.5 noborder lc rgb tint[k] notitle, \
        for [k = 1:7] bars using (slot[k]):(bar(i, k, 2)) with boxes fill solid 1.0 noborder lc rgb tint[k] notitle, \
        rate[i] with lines lw 1.6 lc rgb ink notitle, \
        for [k = 1:7] bars using (slot[k]):(of(i, k, "ceiling_tok_per_s_lo")):(0):(of(i, k, "ceiling_tok_per_s_hi") - of(i, k, "ceiling_tok_per_s_lo")) \
            with vectors heads size screen 0.004, 90 lw 1.2 lc rgb ink notitle, \
        for [k = 1:7] bars using (slot[k]):(top(i, k)):(told(0)) with labels font ',9' textcolor rgb ink offset 0, 1.3 notitle
    unset label 1000; unset label 2020; unset ylabel
}
unset multiplot
