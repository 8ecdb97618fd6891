# cells.gp - style.gp and the rows of plot_cells.tsv, for figures about single cells. Wants `name`, `width`, `height` and `here`.
load here.'/style.gp'
set datafile separator tab
cells = folder.'/plot_cells.tsv'

# Cells of one curve, or without a scaling axis of one server, are one series with one colour.
series = 0; rows = 0
array series_label[256]; array series_colour[256]
stats cells using (series = column("series") < 256 && column("series") >= series ? int(column("series")) + 1 : series, rows = rows + 1, 1) nooutput
do for [i = 1:series] { series_label[i] = ''; series_colour[i] = colours[7] }
stats cells using (k = int(column("series")) + 1, k <= 256 ? (series_label[k] = strcol("series_label"), \
    series_colour[k] = colours[int(column("colour")) % 7 + 1], 1) : 1) nooutput

# Values of one series; of those of a cell that is evidence, or of one that is not.
of(i, what) = int(column("series")) + 1 == i ? known(what) : NaN
solid(i, what) = column("evidence") == 1 ? of(i, what) : NaN
hollow(i, what) = column("evidence") == 0 ? of(i, what) : NaN
