"""The discrete VAE behind BEiT's tokens.

vae.py              DiscreteVAE and its file
networks.py         DALL-E's encoder and decoder
training.py         images -> tokenizer file
codebook.py         which codes are in use; what is lost
dalle_release.py    OpenAI's released pickles -> tokenizer file
"""
