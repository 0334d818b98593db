"""MNIST-MP: the grey digits, the colours they wear, and both as a torch Dataset."""

from mnistmp.data.digits import CHECKSUMS, DATASETS, DIGITS_REMEDY, MNIST_SHA256, DataError, GreyDigits, data_root, load
