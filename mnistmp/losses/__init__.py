"""The formulas of the compared methods, as pure functions of tensors.

Every function returns a scalar, float32 (float64 for float64 input), and differentiates
through its first argument. bfloat16 input is converted before anything is summed, and an
autocast region around the call changes nothing. Products of matrices follow
`torch.set_float32_matmul_precision`. All work under `torch.compile`, `torch.export` and
`torch.func`.
"""

from mnistmp.losses.neighbours import nearest_neighbours, pairwise_l1
from mnistmp.losses.regularizers import decorrelation, double_soft_orthogonality, spectral_decoupling
from mnistmp.losses.reverse_contrastive import ReverseContrastiveLoss, reverse_contrastive_loss
