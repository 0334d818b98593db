"""The paper's figures and the notebooks' pictures, from plain tensors and DataFrames.

Every function returns a `Figure` that pyplot does not know: it shows once, as the last
expression of a notebook cell, and `save` writes it as PNG and PDF, byte for byte the same
every time.

To add one: a function of tensors or DataFrames, decorated with `style.styled`, that draws on `style.new(height, alt)`;
import it here, and give the tests an example. images.py has grids of images, pictures.py what a method does to a
batch or over a run, plots.py plain lines and histograms.
"""

from mnistmp.figures.confusion import confusion
from mnistmp.figures.curves import training_curves
from mnistmp.figures.distances import color_distances, neighbour_distances
from mnistmp.figures.dots import claims, interpretation_differences
from mnistmp.figures.geometry import palette_cube, push_rule
from mnistmp.figures.images import image_grid, samples
from mnistmp.figures.interpretations import interpretations
from mnistmp.figures.latent import Panel, latent_space
from mnistmp.figures.margins import margin_curve
from mnistmp.figures.pictures import channel_mutes, covariance_matrices, logit_spread, singular_values
from mnistmp.figures.plots import histogram, lines
from mnistmp.figures.style import CLASSES, OURS, PAPER, STYLE, TEST, VALIDATION, Figure, save
from mnistmp.figures.table import table_figure
