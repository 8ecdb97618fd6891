# 01-capacity.gp - throughput against engine cores, one curve for each number of API servers.
#
#     gnuplot -e "folder='results/x'" plots/01-capacity.gp
#
# Band: 95 % interval. Ring: the last count of engine cores that helps. Hollow: the host was too busy, no evidence.
# Dashed: what one engine core gives, times their number. Dotted: predicted by closed forms. Thin and dark: the law of scaling that
# was chosen, from the first count tested to the last.
name = '01-capacity'
here = '.'
do for [i = 1:strlen(ARG0)] { if (ARG0[i:i] eq '/') { here = ARG0[1:i-1] } }
if (!exists("folder")) folder = '.'
set datafile separator tab
set datafile columnheaders
curves_count = 0
stats folder.'/plot_curves.tsv' using (curves_count = curves_count + 1, 1) nooutput
width = curves_count > 4 ? 1250 : 900; height = 560
load here.'/style.gp'

points = folder.'/plot_points.csv'
x_max = 1; y_max = 1; predicted = 0
stats points using (x_max = column("cores") > x_max ? column("cores") : x_max, \
    y_max = column("tok_per_s_hi") > y_max ? column("tok_per_s_hi") : y_max, \
    predicted = column("predicted_tok_per_s") > 0 ? 1 : predicted, 1) nooutput

ideal = NaN
do for [i = 1:curves] { if (one[i] == one[i] && !(ideal >= one[i])) { ideal = one[i] } }

if (dumb) {
    set title title_capacity
} else {
    set label 2000 title_capacity at screen 0.5, screen 0.955 center font ',13' textcolor rgb ink noenhanced
    set tmargin 4
}
set xlabel plural textcolor rgb ink
set ylabel 'output tokens/s, thousands' textcolor rgb ink
set xrange [0:x_max * 1.06]
set yrange [0:y_max * 1.12 / 1e3]
set key left top reverse Left samplen 2.5
if (curves > 4) { set key outside right center }
set xtics 1
if (x_max > 16) { set xtics autofreq }
set style fill transparent solid 0.18 noborder

# Which law each curve follows, if the data tell; a folder of an earlier version does not say.
array gamma_of[256]; array alpha_of[256]; array beta_of[256]; array plateau_of[256]; array law_from[256]; array law_to[256]
do for [i = 1:(curves > 0 ? curves : 1)] { law_from[i] = NaN; law_to[i] = NaN; gamma_of[i] = NaN; alpha_of[i] = NaN; beta_of[i] = NaN; plateau_of[i] = NaN }
set datafile separator tab
n = 0; laws = 0
stats folder.'/plot_curves.tsv' using 1 nooutput
if (STATS_columns > 7) {
    stats folder.'/plot_curves.tsv' using (n = n < 256 ? n + 1 : n, gamma_of[n] = known("law_gamma_tok_per_s"), \
        alpha_of[n] = known("law_alpha"), beta_of[n] = known("law_beta"), plateau_of[n] = known("law_plateau_tok_per_s"), \
        law_from[n] = known("law_from_cores"), law_to[n] = known("law_to_cores"), laws = law_to[n] > 0 ? 1 : laws, 1) nooutput
}
set datafile separator ','
set samples 500
below(i, x) = gamma_of[i] * x / (1 + alpha_of[i] * (x - 1) + beta_of[i] * x * (x - 1))
law(i, x) = x < law_from[i] || x > law_to[i] ? NaN : below(i, x) > plateau_of[i] ? plateau_of[i] : below(i, x)

mine(i, what) = column("curve") == i ? column(what) : NaN
solid(i, what) = column("curve") == i && column("evidence") == 1 ? column(what) : NaN
hollow(i, what) = column("curve") == i && column("evidence") == 0 ? column(what) : NaN

plot ideal * x / 1e3 with lines dashtype 2 lw 1.2 lc rgb pale title 'ideal: one engine core times their number', \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "tok_per_s_lo") / 1e3):(mine(i - 1, "tok_per_s_hi") / 1e3) \
        with filledcurves lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "tok_per_s") / 1e3) \
        with lines lw 2 lc rgb colour[i] notitle, \
    for [i = 1:laws ? curves : 0] law(i, x) / 1e3 with lines lw 0.8 lc rgb ink notitle, \
    for [i = 1:curves] points using (mine(i - 1, "cores")):(mine(i - 1, "predicted_tok_per_s") / 1e3) \
        with lines dashtype 3 lw 1.5 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (solid(i - 1, "cores")):(solid(i - 1, "tok_per_s") / 1e3) \
        with points pt 7 ps 0.8 lc rgb colour[i] notitle, \
    for [i = 1:curves] points using (hollow(i - 1, "cores")):(hollow(i - 1, "tok_per_s") / 1e3) \
        with points pt 6 ps 1.0 lc rgb colour[i] notitle, \
    for [i = 1:curves] '+' using (stop_x[i]):(stop_y[i] / 1e3) every ::0::0 \
        with points pt 6 ps 2.2 lw 2 lc rgb colour[i] notitle, \
    for [i = 1:laws] NaN with lines lw 0.8 lc rgb ink title 'thin: law of scaling that fits best', \
    NaN with lines dashtype 3 lw 1.5 lc rgb ink title predicted ? 'predicted by closed forms' : '', \
    for [i = 1:curves] NaN with linespoints lw 2 pt 7 ps 0.8 lc rgb colour[i] title label[i].': '.stop[i]
