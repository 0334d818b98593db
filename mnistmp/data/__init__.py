"""Coloured MNISTs: the grey digits, the colours they wear, and both as torch Datasets, as files and for any model."""

from mnistmp.data.digits import CHECKSUMS, DATASETS, DIGITS_REMEDY, MNIST_SHA256, DataError, GreyDigits, data_root, load
