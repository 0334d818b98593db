"""Figure 3: what feature spaces look like, as t-SNE pictures and as numbers."""

from mnistmp.latent.embedding import TSNE, latent_space, outputs, tsne
from mnistmp.latent.measures import CLAIMS, claims, measure, numbers
from mnistmp.latent.panels import PANELS, Embedding, View, load, save_interactive
