"""Own tokens read the latent tokens, and add what they read: the second half of the latent exchange."""

from avexperts.ops._latent_write._choice import latent_write as latent_write
