"""Figure 3: what feature spaces look like, as t-SNE pictures and as numbers.

Networks are not kept, so a panel needs its training once more. What it shows is kept in
`results/<preset>/latent/`, and from that the figure is drawn in seconds.
"""

from mnistmp.latent.embedding import TSNE, View, embed, outputs, tsne
from mnistmp.latent.file import Embedding
from mnistmp.latent.measures import CLAIMS, claims, measure, numbers
from mnistmp.latent.panels import (
    PANELS,
    compute,
    embed_planned,
    load,
    missing,
    remarks,
    save_interactive,
    seed_of,
)

__all__ = [
    "CLAIMS", "Embedding", "PANELS", "TSNE", "View", "claims", "compute", "embed", "embed_planned",
    "load", "measure", "missing", "numbers", "outputs", "remarks", "save_interactive", "seed_of", "tsne",
]  # fmt: skip
