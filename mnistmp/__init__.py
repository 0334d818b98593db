"""mnistmp: MNIST-MP and the reverse contrastive loss, reproduced (Duboudin et al., ICCVW 2021)."""

from mnistmp import losses, methods, protocol
from mnistmp.benchmark import MNISTMP, PALETTE, TEST_COLOR
from mnistmp.network import LeNet

__version__ = "0.1.0"
__all__ = ["MNISTMP", "PALETTE", "TEST_COLOR", "LeNet", "losses", "methods", "protocol"]
