"""Encoders and images -> figures and numbers of what training did to the features.

encoders.py          any encoder file, a control, random weights or a transfer run, by one name
images.py            images spread over a folder, as an encoder wants its pixels
layers.py            the layers of an encoder that are looked at, while it runs
channels.py          feature collapse, dead and saturated channels, effective rank of a layer
collapse.py          those by layer, several encoders in one plot; sheets of activations
attention.py         where a ViT's heads look from chosen points
reconstructions.py   what the method behind an encoder reconstructs
shift.py             how far each layer moved from one encoder to another
codes.py             what a tokenizer's codes tell of label maps, in nats
figures.py           curves by layer, as a picture
"""
