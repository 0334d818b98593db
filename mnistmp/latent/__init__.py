"""Figure 3: what feature spaces look like, as t-SNE pictures and as numbers.

Networks are not kept, so a panel needs its training once more. What it shows is kept in
`results/<preset>/latent/`, and from that the figure is drawn in seconds.
"""

from mnistmp.latent.embedding import compute, embed, embed_planned, outputs
from mnistmp.latent.file import Embedding, LatentError
from mnistmp.latent.measures import CLAIMS, claims, measure, numbers
from mnistmp.latent.panels import NOTEBOOK, PANELS, View, find, load, missing, remarks, seed_of
from mnistmp.latent.picture import TSNE, tsne

__all__ = [
    "CLAIMS", "Embedding", "LatentError", "NOTEBOOK", "PANELS", "TSNE", "View", "claims", "compute", "embed",
    "embed_planned", "find", "load", "measure", "missing", "numbers", "outputs", "remarks", "seed_of", "tsne",
]  # fmt: skip
