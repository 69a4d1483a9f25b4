# A linear classifier on the last frozen block of a ViT-B/16, as DINOv2's "linear" reads one map
# (in_index=[3]). There the final norm comes before it; here the head's BatchNorm alone.
_base_ = ["_base_/linear.py"]

arch = "vit_base_patch16_224"
model = dict(decode_head=dict(in_index=[3]))
