"""Latent tokens read a resampled stream that is never formed.

Nearly all of the time goes into products with the token weights, where the vendor's matrix library is the right kernel.
What lies between them is one softmax over rows, which costs a few percent: a Triton kernel of our own would have to
beat the library's products to pay, so there is none.
"""

from avexperts.ops._resample_and_read._choice import resample_and_read as resample_and_read
from avexperts.ops._resample_and_read._interpolated import interpolate_and_read as interpolate_and_read
