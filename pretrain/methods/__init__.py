"""One file per method: the paper, its equations, its loss.

build.py           the methods by name, built from a recipe
pixels.py          patches of an image, the normalised-pixel target, the patch grid
spark.py           SparK; spark_decoder.py its light UNet, spark_densify.py what joins the two
fcmae.py           the fully convolutional masked autoencoder of ConvNeXt V2
beit.py            BEiT: predict the tokens of masked patches
"""

from pretrain.methods.build import METHODS, Method, build_method

__all__ = ["METHODS", "Method", "build_method"]
